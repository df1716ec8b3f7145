/* Reads applicants from JSON into rows of float64, where they are plainly right, and declines everything else.
 *
 * "Plainly right" is an object of the contract's features, each once, whose values keep the contract and whose spelling
 * is a usual one. Whoever calls reads a declined text in another way, which finds what is wrong, or that nothing is. So
 * this file never has to explain, and never has to accept: in doubt it declines.
 *
 * Every byte is read before `end`, and compared or parsed: what is accepted holds no byte that was skipped unseen.
 * No state, no allocation, no locale, no Python: creditmodel_inference/native.py makes the tables.
 */

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "float64 arithmetic must round once, to float64"
#endif

/* What a text stands for: a category's code, or a feature's place in the row. */
typedef struct {
    uint64_t head; /* the first eight bytes, the first one highest; zeros behind a shorter text */
    size_t size;
    const unsigned char *text;
    double value;
} Spelling;

/* Sorted by head, then size, then text. */
typedef struct {
    const Spelling *all;
    size_t count;
} Spellings;

typedef struct {
    const unsigned char *name; /* in its quotation marks */
    size_t name_size;
    Spellings categories; /* none: the feature is a number */
    double low, high;     /* both inclusive */
    bool integer, may_miss;
} Feature;

/* 1 / 5^power: high × 2^64 + low, cut off behind 128 bits, × 2^exponent. */
typedef struct {
    uint64_t high, low;
    int64_t exponent;
} Reciprocal;

typedef struct {
    const Feature *features;
    size_t width;
    Spellings names;
    const Reciprocal *reciprocals; /* from the power behind MAX_FIVE on */
    int64_t reciprocal_count;
} Contract;

typedef const unsigned char *Place;
__extension__ typedef unsigned __int128 uint128;

/* Of a row's numbers those that are not read yet have all bits set: a NaN that no spelling gives. */
enum { UNREAD = 0xff };

enum { MAX_DIGITS = 19, MAX_TEN = 22, MAX_FIVE = 27 };

static const double TEN_TO[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
/* What 64 bits hold of the powers of five. */
static const uint64_t FIVE_TO[] = {
    1u, 5u, 25u, 125u, 625u, 3125u, 15625u, 78125u, 390625u, 1953125u, 9765625u, 48828125u, 244140625u, 1220703125u,
    6103515625u, 30517578125u, 152587890625u, 762939453125u, 3814697265625u, 19073486328125u, 95367431640625u,
    476837158203125u, 2384185791015625u, 11920928955078125u, 59604644775390625u, 298023223876953125u,
    1490116119384765625u, 7450580596923828125u
};

/* The byte at p; 0, which no JSON has, at the end. */
static inline unsigned char peek(Place p, Place end) { return p < end ? *p : 0; }

static inline Place skip_space(Place p, Place end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) p++;
    return p;
}

/* Numbers.
 *
 * A decimal is digits × 10^exponent. Its float64 is rounded once, to nearest, ties to even, as Python does it: from
 * exact integers, or from bounds between which nothing rounds differently. Where neither is at hand it is declined.
 */

typedef struct {
    uint64_t digits;
    int64_t exponent;
    bool negative, integer; /* integer: spelled as one, without point and exponent */
} Decimal;

static inline bool is_digit(Place p, Place end) { return p < end && (unsigned)*p - '0' < 10; }

static inline Place read_digits(Place p, Place end, uint64_t *digits) {
    for (; is_digit(p, end); p++) *digits = *digits * 10 + (*p - '0');
    return p;
}

static Place read_exponent(Place p, Place end, int64_t *exponent) {
    bool negative = peek(p, end) == '-';
    int64_t size = 0;
    if (negative || peek(p, end) == '+') p++;
    if (!is_digit(p, end)) return NULL;
    for (; is_digit(p, end); p++) {
        if (size < 100000) size = size * 10 + (*p - '0');
    }
    *exponent += negative ? -size : size;
    return p;
}

static inline Place read_decimal(Place p, Place end, Decimal *number) {
    *number = (Decimal){.negative = peek(p, end) == '-', .integer = true};
    if (number->negative) p++;
    Place begin = p;
    if (!is_digit(p, end)) return NULL;
    p = *p == '0' ? p + 1 : read_digits(p, end, &number->digits);
    ptrdiff_t significant = number->digits ? p - begin : 0;
    if (peek(p, end) == '.') {
        Place point = ++p;
        while (!significant && peek(p, end) == '0') p++;
        begin = p;
        p = read_digits(p, end, &number->digits);
        if (p == point) return NULL;
        significant += p - begin;
        number->exponent = point - p;
        number->integer = false;
    }
    if (significant > MAX_DIGITS) return NULL; /* of more digits some are lost */
    if ((peek(p, end) | 0x20) == 'e') {
        number->integer = false;
        p = read_exponent(p + 1, end, &number->exponent);
    }
    return p;
}

static inline int bits_of(uint64_t value) { return 64 - __builtin_clzll(value); }

/* value × 2^exponent, where the value stands for itself and, if some is `left`, for a little more: its last bit tells,
 * which is far below the place of rounding. The exponent is one that a float64 of full precision can have. */
static double scaled(uint64_t value, bool left, int exponent) {
    uint64_t bits = (uint64_t)(1023 + exponent) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return (double)(value | left) * power;
}

/* digits / 10^power for digits that are not 0, and a power of up to MAX_FIVE. */
static double divided(uint64_t digits, int power) {
    uint64_t five = FIVE_TO[power];
    /* Shifted so that the quotient has 63 or 64 bits, ten more than are kept. */
    int shift = 63 + bits_of(five) - bits_of(digits);
    uint128 dividend = (uint128)digits << shift;
    uint64_t quotient = (uint64_t)(dividend / five);
    return scaled(quotient, (uint128)quotient * five != dividend, -power - shift);
}

/* The same for greater powers, where 64 bits of digits make neither a tie nor an exact quotient. False where it cannot
 * be told how to round, or the power is too great. */
static bool divided_far(uint64_t digits, int64_t power, const Contract *contract, double *value) {
    if (power > MAX_FIVE + contract->reciprocal_count) return false;
    const Reciprocal *five = &contract->reciprocals[power - MAX_FIVE - 1];
    int shift = 64 - bits_of(digits);
    digits <<= shift;
    uint128 product = (uint128)digits * five->high + ((uint128)digits * five->low >> 64);
    /* What was cut off of the reciprocal and of the product is less than 2 in all. */
    if ((uint64_t)product > UINT64_MAX - 2) return false;
    *value = scaled((uint64_t)(product >> 64), true, (int)(128 + five->exponent - power) - shift);
    return true;
}

static inline bool to_double(const Decimal *number, const Contract *contract, double *value) {
    uint64_t digits = number->digits;
    int64_t exponent = number->exponent;
    bool exact = digits <= (uint64_t)1 << 53;
    if (digits == 0) *value = 0;
    else if (number->integer && !exact) return false; /* against the bounds it is compared as it is, not rounded */
    else if (exact && exponent >= -MAX_TEN && exponent <= 0) *value = (double)digits / TEN_TO[-exponent];
    else if (exact && exponent > 0 && exponent <= MAX_TEN) *value = (double)digits * TEN_TO[exponent];
    else if (exponent > 0) return false;
    else if (exponent >= -MAX_FIVE) *value = divided(digits, (int)-exponent);
    else if (!divided_far(digits, -exponent, contract, value)) return false;
    /* The integer -0 is 0. */
    if (number->negative && !(number->integer && digits == 0)) *value = -*value;
    return true;
}

static inline bool is_whole(double value) {
    return fabs(value) >= 0x1p53 || value == (double)(int64_t)value;
}

static inline Place read_number(Place p, Place end, const Contract *contract, const Feature *feature, double *value) {
    Decimal number;
    p = read_decimal(p, end, &number);
    if (p == NULL || !to_double(&number, contract, value)) return NULL;
    if (!(*value >= feature->low && *value <= feature->high)) return NULL;
    return feature->integer && !number.integer && !is_whole(*value) ? NULL : p;
}

/* Names and categories. */

/* Behind the text that begins with the quotation mark at p. */
static Place end_of_text(Place p, Place end) {
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\' && ++p == end) return NULL;
    }
    return p < end ? p + 1 : NULL;
}

/* Behind the value at p, if it is no list and no object: a text, a number, or a word. */
static inline Place end_of_value(Place p, Place end) {
    if (peek(p, end) == '"') return end_of_text(p, end);
    while (p < end && *p > ' ' && *p != ',' && *p != '}') p++;
    return p;
}

static inline uint64_t head_of(Place text, size_t size) {
    uint64_t head = 0;
    for (size_t i = 0; i < 8; i++) head = head << 8 | (i < size ? text[i] : 0);
    return head;
}

/* Below, at or above 0, as a text precedes a spelling, is one, or follows. */
static inline int compare(uint64_t head, Place text, size_t size, const Spelling *spelling) {
    if (head != spelling->head) return head < spelling->head ? -1 : 1;
    if (size != spelling->size) return size < spelling->size ? -1 : 1;
    return size <= 8 ? 0 : memcmp(text, spelling->text, size);
}

/* The spelling that a text is, or NULL: in as many steps as their number has bits, whatever the order they come in. */
static inline const Spelling *find(const Spellings *spellings, Place text, size_t size) {
    uint64_t head = head_of(text, size);
    size_t low = 0, high = spellings->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(head, text, size, &spellings->all[middle]);
        if (order == 0) return &spellings->all[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

static inline Place read_category(Place p, Place end, const Feature *feature, double *value) {
    Place behind = end_of_value(p, end);
    if (behind == NULL) return NULL;
    const Spelling *found = find(&feature->categories, p, (size_t)(behind - p));
    if (found == NULL) return NULL;
    *value = found->value;
    return behind;
}

/* Applicants. */

static inline bool starts_with(Place p, Place end, const void *text, size_t size) {
    return (size_t)(end - p) >= size && memcmp(p, text, size) == 0;
}

static inline Place read_value(Place p, Place end, const Contract *contract, const Feature *feature, double *value) {
    if (feature->categories.count) return read_category(p, end, feature, value);
    if (!feature->may_miss || !starts_with(p, end, "null", 4)) return read_number(p, end, contract, feature, value);
    *value = NAN;
    return p + 4;
}

/* The place of the feature named at p, most often the expected one, and what follows the name. */
static inline Place read_name(Place p, Place end, const Contract *contract, size_t *place) {
    if (*place < contract->width) {
        const Feature *expected = &contract->features[*place];
        if (starts_with(p, end, expected->name, expected->name_size)) return p + expected->name_size;
    }
    if (peek(p, end) != '"') return NULL;
    Place behind = end_of_text(p, end);
    if (behind == NULL) return NULL;
    const Spelling *found = find(&contract->names, p, (size_t)(behind - p));
    if (found == NULL) return NULL;
    *place = (size_t)found->value;
    return behind;
}

static inline bool is_unread(const double *value) {
    uint64_t bits;
    memcpy(&bits, value, sizeof bits);
    return bits == UINT64_MAX;
}

static inline bool fill_gaps(const Contract *contract, double *row) {
    for (size_t i = 0; i < contract->width; i++) {
        if (!is_unread(&row[i])) continue;
        if (!contract->features[i].may_miss) return false;
        row[i] = NAN;
    }
    return true;
}

static Place read_applicant(Place p, Place end, const Contract *contract, double *row) {
    size_t given = 0, place = 0;
    if (peek(p, end) != '{') return NULL;
    memset(row, UNREAD, contract->width * sizeof *row);
    p = skip_space(p + 1, end);
    if (peek(p, end) == '}') return fill_gaps(contract, row) ? p + 1 : NULL;
    for (;; place++, given++) {
        p = read_name(p, end, contract, &place);
        if (p == NULL || !is_unread(&row[place])) return NULL;
        p = skip_space(p, end);
        if (peek(p, end) != ':') return NULL;
        p = read_value(skip_space(p + 1, end), end, contract, &contract->features[place], &row[place]);
        if (p == NULL) return NULL;
        p = skip_space(p, end);
        if (peek(p, end) != ',') break;
        p = skip_space(p + 1, end);
    }
    if (peek(p, end) != '}' || (given + 1 != contract->width && !fill_gaps(contract, row))) return NULL;
    return p + 1;
}

/* Reads `size` bytes, applicants with commas between them, into `rows` [capacity, width] and returns how many there are.
 * -1: declined, for whatever reason; then the rows hold nothing. */
__attribute__((visibility("default")))
ptrdiff_t creditmodel_scan(const Contract *contract, const unsigned char *text, size_t size, double *rows, size_t capacity) {
    Place p = text, end = text + size;
    for (size_t count = 0; count < capacity; count++) {
        p = read_applicant(skip_space(p, end), end, contract, rows + count * contract->width);
        if (p == NULL) return -1;
        p = skip_space(p, end);
        if (p == end) return (ptrdiff_t)count + 1;
        if (*p++ != ',') return -1;
    }
    return -1;
}
