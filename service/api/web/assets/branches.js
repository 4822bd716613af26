/** A conversation's tree: which messages answer the same one, and where each branch ends. */

// More would be a long wait for arrows that few people press.
const MOST = 1000;

/** The tree of a conversation, or null where it is too large or has one branch only. */
export async function loadTree(api, conversation, shown) {
  if (conversation.message_count <= shown || conversation.message_count > MOST) return null;
  const children = new Map();
  for await (const message of api.items(`/conversations/${conversation.id}/messages?branch=all`, MOST)) {
    const beside = children.get(message.parent_id) ?? [];
    children.set(message.parent_id, [...beside, message]);
  }
  return new Tree(children);
}

class Tree {
  #children;

  constructor(children) {
    this.#children = children;
  }

  /** The messages that answer what this one answers, itself among them, the oldest first. */
  siblings(message) {
    return (this.#children.get(message.parent_id) ?? [message]).toSorted((one, other) => one.id - other.id);
  }

  /** The end of the branch that goes through a message: the newest answer each time. */
  leaf(message) {
    const next = this.#children.get(message.id);
    return next ? this.leaf(next.reduce((one, other) => (one.id > other.id ? one : other))) : message;
  }
}
