/** The list of conversations, and what a search finds instead of it. */

import { element, snippet } from "./text.js";

const PAGE = 30;

export class Sidebar {
  #api;
  #list;
  #chosen = null;
  #query = "";
  // Of several loads only the last one is shown, whichever answers first.
  #load = 0;

  constructor(api, list) {
    this.#api = api;
    this.#list = list;
  }

  /** Show what is there now: conversations, or what matches the query. Throws Problem. */
  async load(query = this.#query) {
    this.#query = query;
    const load = (this.#load += 1);
    const page = await this.#api.get(this.#path(""));
    if (load !== this.#load) return;
    this.#list.replaceChildren();
    this.#add(page);
    if (!page.items.length) this.#list.append(element("li", { class: "note" }, query ? "Nothing found." : "Nothing yet."));
  }

  /** Mark the conversation that is open; null for none. */
  choose(id) {
    this.#chosen = id;
    for (const link of this.#list.querySelectorAll("a")) {
      if (link.hash === `#${id}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  #path(cursor) {
    const what = this.#query ? `/search?query=${encodeURIComponent(this.#query)}&` : "/conversations?";
    return `${what}limit=${PAGE}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`;
  }

  #add(page) {
    this.#list.append(...page.items.map((item) => element("li", {}, this.#query ? hit(item) : link(item.id, item.title))));
    if (page.next_cursor) this.#list.append(element("li", {}, this.#more(page.next_cursor)));
    this.choose(this.#chosen);
  }

  #more(cursor) {
    const more = async (event) => {
      const load = this.#load;
      event.target.disabled = true;
      const page = await this.#api.get(this.#path(cursor));
      if (load !== this.#load) return;
      event.target.parentElement.remove();
      this.#add(page);
    };
    return element("button", { onclick: more }, "More");
  }
}

function link(id, title) {
  return element("a", { href: `#${id}` }, title || "Untitled");
}

function hit(item) {
  const made = link(item.conversation_id, item.conversation.title);
  made.append(element("small", {}, snippet(item.snippet)));
  return made;
}
