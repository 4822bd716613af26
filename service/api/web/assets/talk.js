/** One conversation: its active branch, the answer that is being said, and what can be done with them. */

import { loadTree } from "./branches.js";
import { follow, newName } from "./stream.js";
import { element, paragraphs } from "./text.js";

const PAGE = 50;
const RUNNING = ["queued", "in_progress"];
const NEAR_THE_END = 80;

export class Talk {
  conversation = null;
  #api;
  #log;
  #changed;
  #attempt;
  #messages = [];
  #earlier = null;
  #tree = null;
  #notes = new Map();
  // The answer that is followed: `{controller, completion}`.
  #run = null;

  /**
   * `changed(talk)` is called whenever the conversation, or whether it is being answered, is another one; `attempt(work)`
   * does what a button in the log asks for, and says what goes wrong.
   */
  constructor(api, log, { changed, attempt }) {
    this.#api = api;
    this.#log = log;
    this.#changed = changed;
    this.#attempt = attempt;
  }

  get answering() {
    return this.#run !== null;
  }

  /** The model that was asked last. */
  get model() {
    return this.#messages.findLast((message) => message.model)?.model ?? this.conversation?.model;
  }

  /** Leave what was open, without stopping it, and show a conversation, or an empty page for null. Throws Problem. */
  async open(id) {
    this.leave();
    this.conversation = null;
    this.#messages = [];
    this.#earlier = this.#tree = null;
    this.#log.replaceChildren();
    this.#changed(this);
    if (id === null) return;
    const run = (this.#run = { controller: new AbortController(), completion: null });
    try {
      await this.#load(id, run);
    } catch (error) {
      if (!run.controller.signal.aborted) throw error;
    } finally {
      this.#end(run);
    }
    if (run.controller.signal.aborted) return;
    const last = this.#messages.at(-1);
    if (last?.completion_id && RUNNING.includes(last.status)) {
      this.#log.lastElementChild.remove();
      await this.#follow({ completion: last.completion_id }, last.model);
    }
  }

  /** Stop following. The turn goes on. */
  leave() {
    this.#run?.controller.abort();
    this.#run = null;
  }

  /** Send a question, and show its answer as it comes. Throws Problem where it was not accepted. */
  async ask(content, model) {
    if (!this.conversation) {
      const headers = { "Idempotency-Key": newName() };
      this.conversation = await (await this.#api.send("POST", "/conversations", { body: { model }, headers })).json();
      this.#changed(this);
    }
    const shown = this.#show({ role: "user", content, status: "completed" });
    const body = { content, model };
    try {
      await this.#follow({ path: `/conversations/${this.conversation.id}/completions`, body }, model);
    } catch (error) {
      shown.remove();
      throw error;
    }
  }

  /** End the answer that is being said; what came of it stays. Throws Problem. */
  async stop() {
    if (this.#run?.completion) await this.#api.send("POST", `/completions/${this.#run.completion}/cancel`);
  }

  async rename(title) {
    const path = `/conversations/${this.conversation.id}`;
    this.conversation = await (await this.#api.send("PATCH", path, { body: { title } })).json();
    this.#changed(this);
  }

  async delete() {
    await this.#api.send("DELETE", `/conversations/${this.conversation.id}`);
    await this.open(null);
  }

  /** Another answer to the last question, beside the one that is there. */
  async #regenerate(model) {
    this.#log.lastElementChild.remove();
    try {
      await this.#follow({ path: `/conversations/${this.conversation.id}/regenerate`, body: { model } }, model);
    } catch (error) {
      this.#draw();
      throw error;
    }
  }

  /** Follow a turn to its end. Throws Problem where it was not accepted; nothing is left of the answer's place then. */
  async #follow(request, model) {
    const run = (this.#run = { controller: new AbortController(), completion: request.completion ?? null });
    const answer = new Answer(this.#show({ role: "assistant", content: "", model, status: "in_progress" }));
    const keep = this.#atEnd();
    this.#changed(this);
    try {
      for await (const event of follow(this.#api, request, { signal: run.controller.signal, wait: () => answer.wait() })) {
        if (event.type === "completion") run.completion = event.data.completion_id;
        if (event.type === "usage") this.#notes.set(run.completion, meters(event.data));
        if (event.type === "error") this.#notes.set(run.completion, event.data.detail ?? event.data.title);
        answer.add(event);
        if (keep) this.#scroll();
      }
      await this.#load(this.conversation.id, run);
    } catch (error) {
      if (!run.controller.signal.aborted) {
        answer.remove();
        throw error;
      }
    } finally {
      this.#end(run);
    }
  }

  #end(run) {
    if (this.#run === run) this.#run = null;
    this.#changed(this);
  }

  async #load(id, run) {
    const signal = run.controller.signal;
    const conversation = await this.#api.get(`/conversations/${id}`, { signal });
    const page = await this.#page(id, "", signal);
    const tree = await loadTree(this.#api, conversation, page.total ?? page.items.length);
    if (signal.aborted) return;
    this.conversation = conversation;
    this.#messages = page.items.reverse();
    this.#earlier = page.next_cursor;
    this.#tree = tree;
    this.#draw();
    this.#scroll();
    this.#changed(this);
  }

  /** Messages of the active branch, the newest first. */
  #page(id, cursor, signal) {
    return this.#api.get(`/conversations/${id}/messages?sort=recent&limit=${PAGE}${cursor}`, { signal });
  }

  async #loadEarlier() {
    const page = await this.#page(this.conversation.id, `&cursor=${encodeURIComponent(this.#earlier)}`);
    this.#messages = [...page.items.reverse(), ...this.#messages];
    this.#earlier = page.next_cursor;
    const height = this.#log.scrollHeight;
    this.#draw();
    this.#log.scrollTop += this.#log.scrollHeight - height;
  }

  #draw() {
    this.#log.replaceChildren();
    if (this.#earlier) {
      this.#log.append(element("button", { class: "earlier", onclick: () => this.#attempt(() => this.#loadEarlier()) }, "Earlier messages"));
    }
    for (const message of this.#messages) this.#show(message);
  }

  #show(message) {
    const made = element("article", { "data-role": message.role, "data-status": message.status });
    if (message.reasoning) made.append(thoughts(message.reasoning));
    made.append(element("div", { class: "text" }, paragraphs(message.content)));
    for (const part of message.parts ?? []) if (part.type === "image") made.append(this.#image(message, part));
    if (message.id) made.append(this.#foot(message));
    this.#log.append(made);
    return made;
  }

  #foot(message) {
    const foot = element("footer", {});
    if (message.role === "assistant") {
      const state = message.status === "completed" ? "" : message.status.replace("_", " ");
      const said = [message.model, state, this.#notes.get(message.completion_id)].filter(Boolean);
      foot.append(element("span", {}, said.join(" · ")));
    }
    const beside = this.#tree?.siblings(message) ?? [message];
    if (beside.length > 1) foot.append(this.#arrows(message, beside));
    if (message === this.#messages.at(-1) && message.role === "assistant" && !RUNNING.includes(message.status)) {
      const again = () => this.#attempt(() => this.#regenerate(message.model));
      foot.append(element("button", { onclick: again }, "Another answer"));
    }
    return foot;
  }

  #arrows(message, beside) {
    const at = beside.findIndex((one) => one.id === message.id);
    const arrow = (step, label, sign) => {
      const other = beside[at + step];
      const go = () => this.#attempt(() => this.#activate(this.#tree.leaf(other).id));
      return element("button", { "aria-label": label, disabled: !other, onclick: go }, sign);
    };
    const place = element("span", {}, `${at + 1}/${beside.length}`);
    return element("span", { class: "arrows" }, arrow(-1, "The branch before", "‹"), place, arrow(1, "The next branch", "›"));
  }

  async #activate(leaf) {
    const id = this.conversation.id;
    await this.#api.send("POST", `/conversations/${id}/activate`, { body: { message_id: leaf } });
    await this.open(id);
  }

  #image(message, part) {
    const image = element("img", { alt: "An image of this message" });
    this.#api
      .send("GET", `/messages/${message.id}/images/${part.sha256}`)
      .then(async (response) => {
        image.src = URL.createObjectURL(await response.blob());
        image.onload = () => URL.revokeObjectURL(image.src);
      })
      .catch(() => image.replaceWith(element("p", { class: "note" }, "An image that cannot be shown.")));
    return image;
  }

  #atEnd() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < NEAR_THE_END;
  }

  #scroll() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}

/** An answer while it comes: text is only ever appended, however long it gets. */
class Answer {
  #made;
  #text = element("p", { class: "coming" });
  #thoughts = null;
  #note = element("footer", {}, "…");

  constructor(made) {
    this.#made = made;
    made.replaceChildren(this.#text, this.#note);
  }

  add({ type, data }) {
    this.#note.textContent = "…";
    if (type === "message") this.#text.append(data.token);
    if (type === "reasoning") {
      if (!this.#thoughts) this.#made.prepend((this.#thoughts = thoughts("")));
      this.#thoughts.lastElementChild.append(data.reasoning);
    }
  }

  wait() {
    this.#note.textContent = "The connection was cut; the answer goes on, and is taken up again …";
  }

  remove() {
    this.#made.remove();
  }
}

function thoughts(text) {
  return element("details", {}, element("summary", {}, "Thoughts"), element("p", { class: "coming" }, text));
}

function meters(usage) {
  const read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
  const cost = usage.cost_usd === null ? "no price known" : `$${usage.cost_usd}`;
  return `${read} tokens in, ${usage.output_tokens} out · ${cost}`;
}
