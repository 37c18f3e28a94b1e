// What all pages do: show the node as it is now, ask for a key or the token where one is needed, copy.
const KEY = "swarmllm-key", TOKEN = "swarmllm-token";
const FIRST_WAIT_MS = 1000, LAST_WAIT_MS = 15000, AGAIN_MS = 700;
const page = document.body.dataset.page;
const $ = (id) => document.getElementById(id);

// --- asking the node ---------------------------------------------------------------------------------------------------------

/** fetch with this tab's key; asks for one where the node wants it. */
export async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    const key = sessionStorage.getItem(KEY);
    if (key) headers.authorization = `Bearer ${key}`;
    const got = await fetch(path, { ...options, headers });
    if (got.status !== 401) return got;
    const given = await askFor("API key", KEY, key ? "The node does not know this key." : "This node asks for an API key.");
    if (given === null) return got;
  }
}

/** A change of the node's state, with its token, which is asked for once; null if nobody gives it. */
export async function post(path, body = {}) {
  let why = "This changes the node. Its token is in the file api-token of its data folder.";
  for (;;) {
    const token = sessionStorage.getItem(TOKEN) ?? (await askFor("Token", TOKEN, why));
    if (token === null) return null;
    const headers = { "content-type": "application/json", "x-swarmllm-token": token };
    const got = await ask(path, { method: "POST", headers, body: JSON.stringify(body) });
    if (got.status !== 403 || (await got.clone().json()).error.code !== "token_required") return got;
    sessionStorage.removeItem(TOKEN);
    why = "That is not the token of this node. It is in the file api-token of its data folder.";
  }
}

/** The sentence of an error reply. */
export async function sentence(got) {
  try {
    return (await got.json()).error.message;
  } catch {
    return `the node answered with status ${got.status}`;
  }
}

let asking = null;

/** Opens the dialog, once for all who wait; null if nobody wants to give it. */
function askFor(what, place, why) {
  asking ??= new Promise((resolve) => {
    const dialog = $("ask"), field = $("ask-value");
    $("ask-title").textContent = what;
    $("ask-label").textContent = what;
    $("ask-why").textContent = why;
    field.value = "";
    const done = (value) => {
      asking = null;
      if (value) sessionStorage.setItem(place, value);
      dialog.close();
      resolve(value || null);
    };
    $("ask-cancel").onclick = () => done(null);
    dialog.oncancel = () => done(null);
    dialog.firstElementChild.onsubmit = (event) => {
      event.preventDefault();
      done(field.value.trim());
    };
    dialog.showModal();
    field.focus();
  });
  return asking;
}

/** Server-sent events of a reply, each as [name, data]. */
export async function* events(got) {
  const decoder = new TextDecoder();
  const reader = got.body.getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      let name = "message", data = "";
      for (const line of part.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        if (line.startsWith("data: ")) data += line.slice(6);
      }
      if (data) yield [name, data];
    }
  }
}

const hidden = new RegExp(`[${document.body.dataset.hidden}]`, "gu");

/** Text of strangers: what reorders or hides is written out. Line breaks stay. */
export function visible(text) {
  return text.replace(hidden, (char) => {
    if (char === "\n" || char === "\t") return char;
    const code = char.codePointAt(0);
    return code <= 0xff ? `\\x${code.toString(16).padStart(2, "0")}` : code <= 0xffff ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
  });
}

/** A reason as a sentence, with what stands between backticks as code. */
export function prose(text) {
  let shown = visible(text);
  if (/^\p{L}+( |$)/u.test(shown)) shown = shown[0].toUpperCase() + shown.slice(1);
  if (!/[.!?]$/.test(shown)) shown += ".";
  const parts = shown.split("`");
  if (parts.length % 2 === 0) return [shown];
  return parts.map((part, at) => (at % 2 ? Object.assign(document.createElement("code"), { textContent: part }) : part));
}

let saidAt = 0;

/** A short word to whoever looks, which goes away. */
export function say(text) {
  $("said").textContent = text;
  clearTimeout(saidAt);
  saidAt = setTimeout(() => ($("said").textContent = ""), 6000);
}

// --- what the page shows now -------------------------------------------------------------------------------------------------

let shown = null, showing = false, wanted = false;

/** The part that shows the node, made anew; the place of the keyboard is kept. */
export async function refresh() {
  if (showing) {
    wanted = true;
    return;
  }
  showing = true;
  try {
    do {
      wanted = false;
      const got = await ask(`/console/live/${page}`);
      if (!got.ok) {
        if (got.status !== 401) say(await sentence(got));
        return;
      }
      const text = await got.text();
      if (text !== shown) put(text);
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    } while (wanted);
  } catch {
    pill("unreachable", "not reachable");
  } finally {
    showing = false;
  }
}

function put(text) {
  const focused = document.activeElement?.id;
  const open = [...document.querySelectorAll("#live details[open]")].map((one) => one.id);
  shown = text;
  $("live").innerHTML = text; // Escaped by the node's templates.
  for (const id of open) $(id)?.setAttribute("open", "");
  if (focused && document.activeElement?.id !== focused) $(focused)?.focus({ preventScroll: true });
  document.dispatchEvent(new Event("live"));
}

function pill(state, text) {
  if ($("pill").dataset.state !== state) $("pill").dataset.state = state;
  if ($("pill").textContent !== text) $("pill").textContent = text;
}

function showState(state) {
  const halted = state.halted.length > 0;
  const banner = document.createElement("div");
  if (halted) banner.append("No text is made here: ", ...prose(state.halted[0]));
  if ($("banner").textContent !== banner.textContent) $("banner").replaceChildren(...banner.childNodes);
  $("banner").hidden = !halted;
  const experts = `${state.usable} ${state.usable === 1 ? "expert" : "experts"}`;
  pill(halted ? "halted" : state.state, halted ? "halted" : state.state === "running" ? `running, ${experts}` : state.state);
}

let stream = null;

/** Follows the node while somebody looks at the page: a browser has few connections to one node. */
async function follow() {
  let wait = FIRST_WAIT_MS;
  while (!document.hidden) {
    stream = new AbortController();
    try {
      const got = await ask("/api/events", { signal: stream.signal });
      if (got.status === 401) return pill("unknown", "needs a key");
      if (got.ok) {
        wait = FIRST_WAIT_MS;
        for await (const [name, data] of events(got)) {
          if (name === "state") showState(JSON.parse(data));
          refresh();
        }
      }
    } catch {
      if (document.hidden) return;
    }
    pill("unreachable", "not reachable");
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(2 * wait, LAST_WAIT_MS);
  }
}

document.addEventListener("visibilitychange", () => (document.hidden ? stream?.abort() : follow()));
window.addEventListener("pagehide", () => stream?.abort());
follow();

// --- buttons -----------------------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy) copy($(button.dataset.copy));
  if (button?.dataset.change) change(button.dataset.change, button);
});

async function copy(from) {
  try {
    await navigator.clipboard.writeText(from.textContent);
    say("Copied.");
  } catch {
    getSelection().selectAllChildren(from); // A page that is not on this machine may not write the clipboard.
    say("Selected; copy it with Ctrl+C.");
  }
}

async function change(what, button) {
  button.disabled = true;
  try {
    const got = await post(`/api/${what}`);
    if (got === null) return;
    if (!got.ok) return say(await sentence(got));
    say(what === "stop_here" ? "This node is stopped." : "This node is started.");
    return refresh();
  } catch {
    say("The node cannot be reached.");
  } finally {
    button.disabled = false;
  }
}
