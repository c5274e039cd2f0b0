// Elements and their text. Whatever comes from outside goes in as text, never as markup.

/** An element with attributes and children; strings become text nodes. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Sets text only where it changed: a screen reader's cursor and a selection stay where they are. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute only where it changed; null removes it. */
export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

const views = new WeakMap();

/**
 * Children of `parent` by key, in the order of `items`: those that stay are updated and keep focus and scroll position.
 * `make(item)` returns a view: `{ element, update(item) }`.
 */
export function keyed(parent, items, keyOf, make) {
  const before = views.get(parent) ?? new Map();
  const after = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!after.has(key)) after.set(key, [before.get(key) ?? make(item), item]);
  }
  for (const [key, view] of before) if (!after.has(key)) view.element.remove();
  let place = parent.firstElementChild;
  const kept = new Map();
  for (const [key, [view, item]] of after) {
    if (view.element === place) place = place.nextElementSibling;
    else parent.insertBefore(view.element, place);
    view.update(item);
    kept.set(key, view);
  }
  views.set(parent, kept);
  return kept;
}
