// The tools under the photo: its parts, another background, other colours.

const tool = () => document.querySelector("[name=tool]:checked").value;

// Colours to choose at once; their names are words.
const SWATCHES = ["#e5484d", "#f76b15", "#ffc53d", "#30a46c", "#0090ff", "#6e56cf", "#d6409f", "#8d6e63", "#1c2024", "#f4f4f2"];

function renderSwatches(id, choose) {
  $(id).replaceChildren(...SWATCHES.map((colour, index) => {
    const button = element("button", { className: "swatch", title: WORDS[language].colours[index] });
    button.setAttribute("aria-label", WORDS[language].colours[index]);
    button.style.background = colour;
    on(button, "click", () => choose(colour));
    return button;
  }));
}

function renderTool() {
  const now = tool();
  for (const panel of all("[data-tool]")) panel.hidden = panel.dataset.tool !== now;
  for (const part of all("[data-background]")) part.hidden = part.dataset.background !== state.background.kind;
  $("parts").hidden = $("badges").hidden = now !== "parts";
  // Something is chosen from the beginning: the part that is largest.
  if (now === "recolour" && !state.pinned) {
    const [largest] = parts().sort((a, b) => b.pixels - a.pixels);
    if (largest) state.pinned = { part: largest.id, person: null };
  }
  $("save-edit").hidden = now === "parts";
  renderFocus();
  recompose();
}

const edits = () => ({ background: state.background, recolours: state.item.recolours, keep: state.item.keep });

// Draws the edited photo. What is asked for meanwhile is drawn next, and only the last of it.
let composing = false;
let wanted = 0;
async function recompose() {
  const asked = ++wanted;
  if (composing) return;
  composing = true;
  try {
    const { item, map } = state;
    if (map && tool() === "background") item.keep = state.pinned;
    const isShown = map && tool() !== "parts" && isEdited(edits()) && (await item.shown) !== null;
    if (asked === wanted) {
      if (!isShown) $("edit").hidden = true;
      else if (await compose($("edit"), $("photo"), map, edits(), () => asked === wanted && item === state.item)) $("edit").hidden = false;
    }
  } finally {
    composing = false;
  }
  if (asked !== wanted) recompose();
}

function setBackground(change) {
  Object.assign(state.background, change);
  renderTool();
}

function setColour(colour) {
  if (!state.pinned) return;
  state.item.recolours.set(keyOf(state.pinned), { what: state.pinned, colour });
  recompose();
}

// What may be recoloured: everybody's parts, and each person's own.
function renderRecolour() {
  const option = (what, textContent) => element("option", { value: keyOf(what), textContent });
  const group = (label, options) => element("optgroup", { label }, ...options);
  $("recolour").replaceChildren(
    element("option", { value: "", textContent: word("nothing_chosen") }),
    group(word("everybody"), parts().map((one) => option({ part: one.id, person: null }, className(one.id)))),
    ...state.report.persons.map(({ id, parts }) => group(word("person", { id }), [
      option({ part: null, person: id }, word("person", { id })),
      ...parts.map((part) => option({ part: part.class_id, person: id }, named({ part: part.class_id, person: id }))),
    ])),
  );
}

function chooseRecolour() {
  const [part, person] = $("recolour").value.split("/").map((id) => (id ? Number(id) : null));
  state.pinned = part === null && person === null || person === undefined ? null : { part, person };
  renderFocus();
}
