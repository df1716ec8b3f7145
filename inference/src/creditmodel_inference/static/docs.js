"use strict";

// The API's page: reads openapi.json from the same server and needs nothing from anywhere else.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made[name] = value;
  made.append(...children);
  return made;
}

function resolve(document, schema) {
  const name = schema && schema.$ref && schema.$ref.split("/").pop();
  return name ? document.components.schemas[name] : schema || {};
}

function allowed(schema) {
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  const bounds = [];
  const bound = (word, value) => { if (Math.abs(value) < 2 ** 63) bounds.push(`${word} ${value}`); };  // beyond: the type's own
  bound("from", schema.minimum);
  bound("to", schema.maximum);
  return [[].concat(schema.type || "any").join(" or "), ...bounds].join(" ");
}

function fieldTable(title, schema) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, property]) =>
    element("tr", {},
      element("td", {}, element("code", {}, name), required.has(name) ? "" : " (optional)"),
      element("td", {}, allowed(property)),
      element("td", {}, property.description || "")));
  const head = element("tr", {}, ...["Field", "Allowed", "Meaning"].map((text) => element("th", { scope: "col" }, text)));
  return element("div", {}, element("h3", {}, title),
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

async function send(method, path, body, output) {
  output.hidden = false;
  output.textContent = "…";
  const begun = performance.now();
  try {
    const options = body === undefined ? { method } : { method, body, headers: { "content-type": "application/json" } };
    const response = await fetch("." + path, options);
    const text = await response.text();
    const milliseconds = (performance.now() - begun).toFixed(1);
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not every answer is JSON */ }
    output.textContent = `${response.status} ${response.statusText}, ${milliseconds} ms\n\n${shown}`;
  } catch (error) {
    output.textContent = String(error);
  }
}

function operationBody(document, method, path, operation) {
  const media = operation.requestBody && operation.requestBody.content["application/json"];
  const output = element("pre", { hidden: true });
  const parts = [];
  let input;
  if (media) {
    const text = JSON.stringify(media.example || {}, null, 2);
    input = element("textarea", { value: text, spellcheck: false, ariaLabel: "Request body" });
    parts.push(input);
  }
  const button = element("button", { type: "button" }, "Send");
  button.addEventListener("click", () => send(method.toUpperCase(), path, input && input.value, output));
  parts.push(element("p", {}, button), output);
  const request = media && resolve(document, media.schema);
  if (request && request.properties && request.properties.applicants) {
    parts.push(fieldTable("An applicant", resolve(document, request.properties.applicants.items)));
  }
  return element("div", { className: "body" }, ...parts);
}

function show(document) {
  window.document.title = document.info.title;
  window.document.getElementById("title").textContent = document.info.title;
  window.document.getElementById("about").textContent = `Version ${document.info.version}. ${document.info.description}`;
  const operations = [];
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      operations.push(element("details", { open: path === "/v1/score" },
        element("summary", {},
          element("span", { className: "method" }, method.toUpperCase()),
          element("span", { className: "path" }, path),
          element("span", { className: "text" }, operation.summary || "")),
        operationBody(document, method, path, operation)));
    }
  }
  window.document.getElementById("operations").replaceChildren(...operations);
}

fetch("./openapi.json")
  .then((response) => response.ok ? response.json() : Promise.reject(new Error(`openapi.json: ${response.status}`)))
  .then(show)
  .catch((error) => { document.getElementById("operations").textContent = String(error); });
