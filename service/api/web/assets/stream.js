/** Answers as they are said: server-sent events, taken up again wherever the connection was cut. */

import { Problem } from "./api.js";

const FIRST_WAIT = 250;
const LONGEST_WAIT = 8000;

/** The events of a body: `{id, type, data}`; a comment is none, and one that was cut off is none either. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const event = read(part);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function read(part) {
  const fields = { id: null, event: "message", data: [] };
  for (const line of part.split(/\r?\n/)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") fields.data.push(value);
    else if (name in fields) fields[name] = value;
  }
  return fields.data.length ? { id: fields.id, type: fields.event, data: fields.data.join("\n") } : null;
}

/** A name that a request keeps when it is sent again, so that it is carried out once. */
export function newName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The events of one turn, each once and in order, `data` parsed: of a new one, `{path, body}`, or of one that was begun
 * before, `{completion}`. Whatever cuts the connection, the rest is asked for, on whichever worker answers; a request that
 * may have got through is sent again under its name. `wait(failures)` hears of each try after the first.
 * Throws Problem for what trying again does not change.
 */
export async function* follow(api, { path, body, completion }, { signal, wait = () => {} } = {}) {
  const headers = { "Idempotency-Key": newName() };
  let id = completion ?? null;
  let last = null;
  for (let failures = 0; ; failures += 1) {
    if (failures) {
      wait(failures);
      await pause(Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failures - 1)), signal);
    }
    try {
      const response =
        id === null
          ? await api.send("POST", path, { body: { ...body, stream: true }, headers, signal })
          : await api.send("GET", `/completions/${id}/stream${last === null ? "" : `?starting_after=${last}`}`, { signal });
      id ??= Number(response.headers.get("Everturn-Completion-Id")) || null;
      for await (const event of events(response.body)) {
        failures = 0;
        if (event.type === "reconnect") break;
        if (event.id) [id, last] = event.id.split(":").map(Number);
        if (event.data === "[DONE]") return;
        yield { type: event.type, data: JSON.parse(event.data) };
        if (event.type === "error") return;
      }
    } catch (error) {
      if (signal?.aborted || (error instanceof Problem && !error.passes)) throw error;
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
