/** Requests to the service that this page is from, with the key that somebody gave. */

/** An answer that is a problem; its message is a sentence to show. */
export class Problem extends Error {
  constructor(status, body) {
    super(sentence(status, body));
    this.status = status;
    this.code = body?.code;
  }

  /** Whether the same request may get another answer a little later. */
  get passes() {
    return [502, 503, 504].includes(this.status);
  }
}

function sentence(status, body) {
  if (Array.isArray(body?.detail)) {
    return body.detail.map((one) => `${one.loc.slice(1).join(".")}: ${one.msg}`).join("; ");
  }
  return body?.detail || body?.title || `The service answered ${status}.`;
}

export class Api {
  #key;
  #base;

  constructor(key, base = "") {
    this.#key = key;
    this.#base = base;
  }

  /** The answer, whose body is not read yet. Throws Problem, or TypeError where nobody answers. */
  async send(method, path, { body, headers = {}, signal } = {}) {
    const json = body === undefined ? {} : { "Content-Type": "application/json" };
    const response = await fetch(this.#base + path, {
      method,
      signal,
      cache: "no-store",
      headers: { Authorization: `Bearer ${this.#key}`, ...json, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    throw new Problem(response.status, await response.json().catch(() => null));
  }

  async get(path, options) {
    return (await this.send("GET", path, options)).json();
  }

  /** All items of a list, page by page, but not many more than `most`. */
  async *items(path, most) {
    const separator = path.includes("?") ? "&" : "?";
    let cursor = "";
    for (let seen = 0; seen < most; ) {
      const page = await this.get(`${path}${separator}limit=100${cursor}`);
      yield* page.items;
      seen += page.items.length;
      if (!page.next_cursor) return;
      cursor = `&cursor=${encodeURIComponent(page.next_cursor)}`;
    }
  }
}
