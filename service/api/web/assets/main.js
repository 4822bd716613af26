/** Signing in, and what the buttons do. */

import { Api, Problem } from "./api.js";
import { Sidebar } from "./sidebar.js";
import { Talk } from "./talk.js";
import { element } from "./text.js";

const KEY = "everturn.key";
const MODEL = "everturn.model";
const TYPING_MS = 250;
const DAYS = 30;
const at = (id) => document.getElementById(id);

function start() {
  const form = at("sign-in");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(form.elements.key.value.trim(), form.elements.keep.checked);
  });
  const key = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  if (key) signIn(key, localStorage.getItem(KEY) === key);
  else form.hidden = false;
}

async function signIn(key, keep) {
  const form = at("sign-in");
  const problem = form.querySelector(".problem");
  problem.textContent = "";
  const api = new Api(key);
  try {
    const user = await api.get("/users/me");
    const models = [];
    for await (const model of api.items("/models?skip=0", 1000)) models.push(model);
    (keep ? localStorage : sessionStorage).setItem(KEY, key);
    form.reset();
    form.hidden = true;
    open(api, user, models);
  } catch (error) {
    form.hidden = false;
    problem.textContent = sentence(error);
  }
}

function signOut() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
  history.replaceState(null, "", "/");
  location.reload();
}

function sentence(error) {
  return error instanceof Problem ? error.message : "The service does not answer.";
}

/** Run what somebody asked for; what goes wrong is said on the page. */
async function doing(work) {
  at("problem").textContent = "";
  try {
    await work();
  } catch (error) {
    if (error instanceof Problem && error.status === 401) signOut();
    at("problem").textContent = sentence(error);
  }
}

function open(api, user, models) {
  const sidebar = new Sidebar(api, at("list"));
  const talk = new Talk(api, at("messages"), { changed: (now) => show(now, sidebar), attempt: doing });
  at("who").textContent = user.username;
  const select = at("ask").elements.model;
  select.replaceChildren(...models.map((model) => element("option", { value: model.id }, model.name)));
  choose(select, localStorage.getItem(MODEL));
  select.addEventListener("change", () => localStorage.setItem(MODEL, select.value));
  listen(api, talk, sidebar, select);
  at("desk").hidden = false;
  doing(() => sidebar.load());
  go(talk, select);
}

function choose(select, model) {
  if ([...select.options].some((option) => option.value === model)) select.value = model;
}

/** Open the conversation that the address names. */
function go(talk, select) {
  const id = Number(location.hash.slice(1)) || null;
  document.body.classList.remove("listing");
  if (id !== null && id === talk.conversation?.id) return;
  doing(async () => {
    const opened = talk.open(id);
    at("ask").elements.content.focus();
    await opened;
    if (talk.model) choose(select, talk.model);
  });
}

function show(talk, sidebar) {
  const open = talk.conversation;
  at("title").textContent = open ? open.title || "Untitled" : "New conversation";
  document.title = open?.title ? `${open.title} · Everturn` : "Everturn";
  at("rename").hidden = at("delete").hidden = !open;
  at("stop").hidden = !talk.answering;
  at("send").disabled = talk.answering;
  sidebar.choose(open?.id ?? null);
  if (open && location.hash !== `#${open.id}`) history.pushState(null, "", `#${open.id}`);
}

function listen(api, talk, sidebar, select) {
  const ask = at("ask");
  const { content } = ask.elements;
  ask.addEventListener("submit", (event) => {
    event.preventDefault();
    send(talk, sidebar, select);
  });
  content.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!talk.answering) ask.requestSubmit();
  });
  content.addEventListener("input", () => fit(content));
  at("stop").addEventListener("click", () => doing(() => talk.stop()));
  at("new").addEventListener("click", () => (history.pushState(null, "", "/"), go(talk, select)));
  at("rename").addEventListener("click", () => {
    const title = prompt("Title", talk.conversation.title ?? "");
    if (title) doing(() => talk.rename(title).then(() => sidebar.load()));
  });
  at("delete").addEventListener("click", () => {
    if (!confirm("Delete this conversation with all its messages?")) return;
    history.replaceState(null, "", "/");
    doing(() => talk.delete().then(() => sidebar.load()));
  });
  at("sign-out").addEventListener("click", signOut);
  at("usage").addEventListener("click", () => doing(() => report(api)));
  at("show-list").addEventListener("click", () => document.body.classList.toggle("listing"));
  at("list").addEventListener("click", (event) => event.target.closest("a") && document.body.classList.remove("listing"));
  addEventListener("hashchange", () => go(talk, select));
  let timer = null;
  at("search").addEventListener("input", (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => doing(() => sidebar.load(event.target.value.trim())), TYPING_MS);
  });
}

function send(talk, sidebar, select) {
  const { content } = at("ask").elements;
  const text = content.value;
  if (!text.trim()) return;
  content.value = "";
  fit(content);
  doing(async () => {
    try {
      await talk.ask(text, select.value);
    } catch (error) {
      // Not accepted: it is still there to be sent again.
      content.value ||= text;
      fit(content);
      throw error;
    } finally {
      await sidebar.load();
    }
  });
}

function fit(area) {
  area.rows = Math.min(12, area.value.split("\n").length);
}

async function report(api) {
  const since = new Date(Date.now() - DAYS * 86_400_000).toISOString();
  const { buckets } = await api.get(`/users/me/usage?bucket=month&group_by=model&since=${since}`);
  const rows = new Map();
  for (const group of buckets.flatMap((bucket) => bucket.groups)) rows.set(group.model, [...(rows.get(group.model) ?? []), group]);
  const sum = (groups, name) => groups.reduce((total, group) => total + Number(group[name]), 0);
  at("report").querySelector("tbody").replaceChildren(
    ...[...rows].map(([model, groups]) => {
      const read = sum(groups, "input_tokens") + sum(groups, "cache_read_tokens") + sum(groups, "cache_write_tokens");
      const cells = [model, sum(groups, "requests"), read, sum(groups, "output_tokens"), sum(groups, "cost_usd").toFixed(6)];
      return element("tr", {}, ...cells.map((cell) => element("td", {}, String(cell))));
    }),
  );
  at("report").showModal();
}

start();
