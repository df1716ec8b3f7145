/*
 * The verdicts of large requests: the reasons of each row, and the results as JSON.
 *
 * The rules are `top_reasons` and `Answers.verdict`; tests hold what is done here to them, to the bit and to the byte.
 * What is read was made by this server: outputs of its graph, digits that msgspec wrote, places in its own tables.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { REASONS = 4, NUMBERS = 3, DECIMALS = 6 };

typedef struct {
    const char *bytes;   /* one text after the other */
    const int64_t *ends; /* of each of them */
    int64_t count;
} Texts;

typedef struct {
    int64_t rows;
    const char *numbers[NUMBERS]; /* of all rows, with commas: probability, log-odds, points */
    const int32_t *decisions;
    const int32_t *reasons;    /* REASONS a row, -1 from where there are fewer */
    const int32_t *millionths; /* the contributions of these reasons, from 0 to below ten million */
    Texts decision_texts;
    Texts reason_texts;
} Results;

typedef struct {
    char *at, *end; /* `at` is NULL as soon as something did not fit */
} Sink;

enum { CONTRIBUTION = DECIMALS + 3 }; /* "1.234567}" */

static const char *const LABELS[NUMBERS] = {"{\"probability\":", ",\"log_odds\":", ",\"points\":"};

static inline void put(Sink *sink, const char *text, size_t size) {
    if (sink->at == NULL || size > (size_t)(sink->end - sink->at)) {
        sink->at = NULL;
        return;
    }
    memcpy(sink->at, text, size);
    sink->at += size;
}

static inline bool has(const Texts *texts, int32_t place) { return place >= 0 && place < texts->count; }

static inline int64_t size_of(const Texts *texts, int32_t place) {
    return texts->ends[place] - (place > 0 ? texts->ends[place - 1] : 0);
}

static inline void put_text(Sink *sink, const Texts *texts, int32_t place) {
    if (!has(texts, place)) {
        sink->at = NULL;
        return;
    }
    int64_t size = size_of(texts, place);
    put(sink, texts->bytes + texts->ends[place] - size, (size_t)size);
}

/* Puts what stands before the next comma, or the end, and moves behind it. */
static inline void put_number(Sink *sink, const char **number) {
    size_t size = 0;
    while ((*number)[size] != ',' && (*number)[size] != '\0') size++;
    put(sink, *number, size);
    *number += size + ((*number)[size] == ',');
}

/* Puts as "%.6f" would, and the brace that closes a reason. */
static inline void put_contribution(Sink *sink, int32_t millionths) {
    char text[CONTRIBUTION];
    for (int place = DECIMALS + 1; place > 1; place--) {
        text[place] = (char)('0' + millionths % 10);
        millionths /= 10;
    }
    text[0] = (char)('0' + millionths);
    text[1] = '.';
    text[DECIMALS + 2] = '}';
    put(sink, text, sizeof text);
}

/*
 * Fills in the contributions of all reasons, in millionths, from those of all features [rows, width], and gives the bytes
 * that all rows, at least one, will take; -1 where there is no such text.
 */
__attribute__((visibility("default")))
int64_t creditmodel_measure_results(const Results *results, const float *contributions, int64_t width, int32_t *millionths) {
    int64_t size = (results->rows - 1) * (1 - NUMBERS); /* commas between rows, in place of those between numbers */
    for (int i = 0; i < NUMBERS; i++)
        size += (int64_t)strlen(results->numbers[i]) + results->rows * (int64_t)strlen(LABELS[i]);
    for (int64_t row = 0; row < results->rows; row++, contributions += width, millionths += REASONS) {
        const int32_t *reasons = results->reasons + row * REASONS;
        if (!has(&results->decision_texts, results->decisions[row])) return -1;
        size += size_of(&results->decision_texts, results->decisions[row]) + 2;
        for (int i = 0; i < REASONS && reasons[i] >= 0; i++) {
            if (!has(&results->reason_texts, reasons[i]) || reasons[i] >= width) return -1;
            size += size_of(&results->reason_texts, reasons[i]) + CONTRIBUTION + (i > 0);
            millionths[i] = (int32_t)rint((double)contributions[reasons[i]] * 1e6);
        }
    }
    return size;
}

/* Writes all rows, with commas between them, and gives what follows; NULL if they do not fit into out[0:room]. */
__attribute__((visibility("default")))
char *creditmodel_write_results(const Results *results, char *out, int64_t room) {
    Sink sink = {out, out + room};
    const char *numbers[NUMBERS];
    memcpy(numbers, results->numbers, sizeof numbers);
    for (int64_t row = 0; row < results->rows; row++) {
        const int32_t *reasons = results->reasons + row * REASONS;
        const int32_t *millionths = results->millionths + row * REASONS;
        if (row > 0) put(&sink, ",", 1);
        for (int i = 0; i < NUMBERS; i++) {
            put(&sink, LABELS[i], strlen(LABELS[i]));
            put_number(&sink, &numbers[i]);
        }
        put_text(&sink, &results->decision_texts, results->decisions[row]);
        for (int i = 0; i < REASONS && reasons[i] >= 0; i++) {
            if (i > 0) put(&sink, ",", 1);
            put_text(&sink, &results->reason_texts, reasons[i]);
            put_contribution(&sink, millionths[i]);
        }
        put(&sink, "]}", 2);
    }
    return sink.at;
}

/*
 * The largest contributions of each row that are more than nothing when rounded to a `unit`th, as places [rows, REASONS],
 * -1 where there are fewer. What is equal when rounded keeps the order of the features.
 */
__attribute__((visibility("default")))
void creditmodel_top_reasons(const float *contributions, int64_t rows, int64_t width, double unit, int32_t *reasons) {
    for (int64_t row = 0; row < rows; row++) {
        int64_t best[REASONS] = {0};
        int32_t *places = reasons + row * REASONS;
        for (int i = 0; i < REASONS; i++) places[i] = -1;
        for (int64_t feature = 0; feature < width; feature++) {
            double contribution = (double)contributions[row * width + feature];
            if (!(contribution > 0.0)) continue;
            int64_t value = (int64_t)rint(contribution * unit), place = REASONS;
            while (place > 0 && value > best[place - 1]) place--;
            for (int64_t i = REASONS - 1; i > place; i--) best[i] = best[i - 1], places[i] = places[i - 1];
            if (place < REASONS) best[place] = value, places[place] = (int32_t)feature;
        }
    }
}
