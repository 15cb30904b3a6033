// Small helpers for the page: templates, messages, announcements.

export const byId = (id) => document.getElementById(id);

/** Return a copy of the template's first element. */
export function copyOf(template) {
  return byId(`tpl-${template}`).content.firstElementChild.cloneNode(true);
}

/** Say something to screen readers that sighted users see on the page. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Show a short message at the bottom, with at most one action such as "Undo". */
export function toast(text, action, run) {
  const box = document.createElement("div");
  box.className = "toast";
  const label = document.createElement("span");
  label.className = "toast-text";
  label.textContent = text;
  box.append(label);
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "toast-action";
    button.textContent = action;
    button.addEventListener("click", () => {
      box.remove();
      run();
    });
    box.append(button);
  }
  byId("toasts").replaceChildren(box);
  announce(text);
  setTimeout(() => box.remove(), 10_000);
}

/** Return the block for an empty list or an error. */
export function message(title, text, action, run) {
  const block = copyOf("message");
  block.querySelector(".message-title").textContent = title;
  block.querySelector(".message-text").textContent = text;
  if (action) {
    const button = block.querySelector(".message-button");
    button.hidden = false;
    button.textContent = action;
    button.addEventListener("click", run);
  }
  return block;
}

/** Return grey lines in the place of content that is being loaded. */
export function skeleton() {
  const card = document.createElement("div");
  card.className = "card skeleton";
  card.setAttribute("aria-hidden", "true");
  for (let line = 0; line < 3; line++) {
    const each = document.createElement("div");
    each.className = "skeleton-line";
    card.append(each);
  }
  return card;
}
