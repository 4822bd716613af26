/** What people and models wrote, as elements: never as HTML. */

/** An element with attributes and children; children that are text stay text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A message's text: what stands between lines of three backticks is code. */
export function paragraphs(text) {
  const made = document.createDocumentFragment();
  text.split(/^```.*(?:\n|$)/m).forEach((part, index) => {
    const words = part.replace(/\n$/, "");
    if (!words.trim()) return;
    made.append(index % 2 ? element("pre", {}, element("code", {}, words)) : element("p", {}, words.trim()));
  });
  return made;
}

/** A search's snippet: its text, and what is marked in it. */
export function snippet(html) {
  const made = document.createDocumentFragment();
  for (const node of new DOMParser().parseFromString(html, "text/html").body.childNodes) {
    made.append(node.nodeName === "MARK" ? element("mark", {}, node.textContent) : node.textContent);
  }
  return made;
}
