// The chat: an answer streams in, and each token tells which experts made it.
import { ask, events, prose, sentence, visible } from "/console/static/console.js";

const $ = (id) => document.getElementById(id);
const COLOURS = 8, SEEN = "swarmllm-seen", HISTORY_MAX = 64;
const turns = []; // The conversation as the API wants it.
const colours = new Map(); // By peer.
let running = null; // The AbortController of the answer that is being written.

function make(tag, props = {}, ...children) {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children);
  return made;
}

const short = (peer) => `…${peer.slice(-6)}`;
const percent = (share) => `${Math.round(100 * share)} %`;
const time = (ms) => (ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`);

/** The classes of an expert's colour; the less it weighs, the fainter. */
function colour(one, weight = one?.weight ?? 0) {
  if (!one) return `e${COLOURS}`;
  if (!colours.has(one.peer)) colours.set(one.peer, colours.size < COLOURS ? colours.size : COLOURS);
  return `e${colours.get(one.peer)}${weight < 0.45 ? " faint" : weight < 0.7 ? " half" : ""}`;
}

// --- the dials ---------------------------------------------------------------------------------------------------------------

function dials() {
  const facts = $("facts")?.dataset ?? {};
  const experts = Math.max(Number(facts.experts ?? 1), Number(facts.k ?? 1), 2);
  $("k").max = experts;
  const k = Number($("k").value), quality = Number($("quality").value), most = $("most").value;
  show("k", k ? `${k}` : `as set (${facts.k ?? "?"})`);
  show("quality", quality >= 0 ? `${quality} %` : `as set (${facts.quality ? facts.quality / 10 : "?"} %)`);
  show("most", `${most} tokens`);
}

function show(id, text) {
  $(`${id}-shown`).textContent = text;
  $(id).setAttribute("aria-valuetext", text);
}

async function models() {
  const got = await ask("/v1/models");
  if (!got.ok) return;
  for (const { id } of (await got.json()).data) {
    if (id !== "swarm") $("model").append(make("option", { value: id, textContent: id === "local" ? "this node alone" : visible(id) }));
  }
}

function firstUse() {
  $("seen").hidden = localStorage.getItem(SEEN) !== null;
  $("who").hidden = !$("seen").hidden;
}

// --- an answer ---------------------------------------------------------------------------------------------------------------

class Answer {
  constructor() {
    this.text = "";
    this.uses = new Map(); // peer -> [model, tokens]
    this.rounds = []; // Of the tokens whose text has not come yet.
    this.count = 0;
    this.began = performance.now();
    this.tokens = make("p", { className: "tokens waiting", tabIndex: 0 });
    this.tokens.setAttribute("role", "group");
    this.tokens.setAttribute("aria-label", "Answer; arrow keys walk through its tokens");
    this.tokens.answer = this;
    this.legend = make("ul", { className: "legend" });
    this.legend.setAttribute("aria-label", "Experts by colour");
    this.item = make("article", { className: "answer" }, this.tokens, this.legend);
  }

  push(chunk) {
    const [choice] = chunk.choices;
    const text = choice?.delta?.content ?? "";
    const thought = choice?.delta?.reasoning_content ?? "";
    if (chunk.swarm) {
      this.rounds.push(chunk.swarm);
      this.count += 1;
      this.note(chunk.swarm);
    }
    if (thought) {
      this.think(thought);
      this.rounds = [];
    }
    if (text) {
      this.text += text;
      const span = make("span", { textContent: visible(text) });
      if (this.rounds.length) {
        span.rounds = this.rounds;
        span.className = `t ${colour(weightiest(this.rounds.at(-1)))}`;
        this.rounds = [];
      }
      this.tokens.append(span);
    }
    if (choice?.finish_reason) this.finish = choice.finish_reason;
  }

  think(text) {
    if (!this.thoughts) {
      this.thoughts = make("p", { className: "thoughts" });
      this.item.prepend(make("details", {}, make("summary", { textContent: "What it thought first" }), this.thoughts));
    }
    this.thoughts.append(visible(text));
  }

  note(round) {
    const best = weightiest(round);
    if (!best) return;
    const [, tokens] = this.uses.get(best.peer) ?? ["", 0];
    this.uses.set(best.peer, [best.model, tokens + 1]);
    const rows = [...this.uses].sort((one, other) => other[1][1] - one[1][1]);
    this.legend.replaceChildren(
      ...rows.map(([peer, [model, many]]) =>
        make("li", {}, make("span", { className: `t ${colour({ peer }, 1)}`, textContent: visible(model), title: peer }), ` weighed most in ${percent(many / this.count)}`),
      ),
    );
  }

  end(why) {
    this.tokens.classList.remove("waiting");
    const seconds = (performance.now() - this.began) / 1000;
    const rate = this.count ? `${this.count} ${this.count === 1 ? "token" : "tokens"}, ${(this.count / seconds).toFixed(1)} a second` : "no token";
    this.item.append(make("p", { className: "ended", textContent: why ? `${rate}. ${why}` : `${rate}.` }));
  }

  fail(message) {
    this.tokens.classList.remove("waiting");
    const told = make("p", { className: "fault" }, ...prose(message));
    told.setAttribute("role", "alert");
    this.item.append(told);
  }
}

function weightiest(round) {
  return round.experts.filter((one) => one.used).reduce((best, one) => (best && best.weight >= one.weight ? best : one), null);
}

async function send(text) {
  if (running) return;
  $("welcome").hidden = true;
  $("clear").hidden = false;
  turns.push({ role: "user", content: text });
  $("log").append(make("div", { className: "asked", textContent: visible(text) }));
  const answer = new Answer();
  $("log").append(answer.item);
  answer.item.scrollIntoView({ block: "end" });
  running = new AbortController();
  busy(true);
  try {
    await write(answer, running.signal);
  } catch (error) {
    if (error.name === "AbortError") answer.end("You have stopped it.");
    else answer.fail("The node cannot be reached");
  }
  running = null;
  busy(false);
  scrollTo(0, document.body.scrollHeight);
  if (answer.text) turns.push({ role: "assistant", content: answer.text });
  else turns.pop(); // What nothing came of is not asked again.
  turns.splice(0, Math.max(0, turns.length - HISTORY_MAX));
}

async function write(answer, signal) {
  const swarm = { trace: true };
  if (Number($("k").value)) swarm.k = Number($("k").value);
  if (Number($("quality").value) >= 0) swarm.quality = Number($("quality").value) / 100;
  const body = { model: $("model").value, messages: turns, stream: true, max_tokens: Number($("most").value), swarm };
  const headers = { "content-type": "application/json" };
  const got = await ask("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!got.ok) return answer.fail(await sentence(got));
  for await (const [, data] of events(got)) {
    if (data === "[DONE]") return answer.end(answer.finish === "length" ? "It is as long as you allowed." : "");
    const chunk = JSON.parse(data);
    if (chunk.error) return answer.fail(chunk.error.message);
    const atEnd = innerHeight + scrollY > document.body.scrollHeight - 80;
    answer.push(chunk);
    if (atEnd) scrollTo(0, document.body.scrollHeight);
  }
  answer.fail("The answer broke off");
}

function busy(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
  const from = document.activeElement;
  if (from === $("send") || from === $("stop") || from === document.body) (is ? $("stop") : $("prompt")).focus({ preventScroll: true });
}

// --- the round of a token ----------------------------------------------------------------------------------------------------

function tell(span) {
  document.querySelector(".t.now")?.classList.remove("now");
  span.classList.add("now");
  const round = span.rounds.at(-1);
  const head = make("h2", {}, make("span", { className: "token", textContent: `“${span.textContent}”` }), make("small", { textContent: time(round.round_ms) }));
  const close = make("button", { type: "button", className: "close", textContent: "×" });
  close.setAttribute("aria-label", "Close");
  close.onclick = () => $("round").classList.add("idle");
  head.append(close);
  const how = round.k ? `${round.experts.length} asked, ${percent(round.agreement)} agreement` : "Nobody was asked: only this token was allowed";
  const uses = [...round.experts].sort((one, other) => other.weight - one.weight).map(use);
  $("round").classList.remove("idle");
  $("round").replaceChildren(head, make("p", { className: "hint", textContent: `${how}.` }), make("dl", {}, ...uses));
}

function use(one) {
  const name = make("span", { className: `t ${colour(one, 1)}`, textContent: visible(one.model), title: one.peer });
  const isOwn = one.peer === $("facts")?.dataset.peer;
  const numbers = `${isOwn ? "this node" : `${short(one.peer)} · ${one.bytes} B`} · ${time(one.rtt_ms)}${one.used ? "" : " · too late, not used"}`;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 6");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  bar.setAttribute("height", "6");
  bar.setAttribute("width", `${100 * one.weight}`);
  svg.append(bar);
  return make("div", { className: one.used ? "use" : "use late" }, make("dt", {}, name, make("span", { textContent: percent(one.weight) })), make("dd", {}, numbers, svg));
}

$("log").addEventListener("mouseover", (event) => event.target.rounds && tell(event.target));
$("log").addEventListener("click", (event) => event.target.rounds && tell(event.target));
$("log").addEventListener("focusin", (event) => {
  if (event.target.answer && !event.target.querySelector(".now")) {
    const first = event.target.querySelector(".t");
    if (first) tell(first);
  }
});
$("log").addEventListener("keydown", (event) => {
  const holder = event.target.answer && event.target;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -1e9, End: 1e9 }[event.key];
  if (!holder || !step) return;
  const all = [...holder.querySelectorAll(".t")];
  if (!all.length) return;
  event.preventDefault();
  const at = all.findIndex((one) => one.classList.contains("now"));
  const next = all[Math.min(all.length - 1, Math.max(0, at + step))];
  tell(next);
  next.scrollIntoView({ block: "nearest" });
});

// --- the form ----------------------------------------------------------------------------------------------------------------

$("ask-swarm").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("prompt").value.trim();
  if (!text || running) return;
  $("prompt").value = "";
  send(text);
});
$("ask-swarm").addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask-swarm").requestSubmit();
});
$("stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  running?.abort();
  turns.length = 0;
  $("log").replaceChildren();
  $("welcome").hidden = false;
  $("clear").hidden = true;
  $("prompt").focus();
});
$("welcome").addEventListener("click", (event) => event.target.matches(".starter") && send(event.target.textContent));
document.addEventListener("click", (event) => {
  if (event.target.id !== "seen-ok") return;
  localStorage.setItem(SEEN, "1");
  firstUse();
  $("prompt").focus();
});
document.addEventListener("live", () => (firstUse(), dials()));
for (const id of ["k", "quality", "most"]) $(id).addEventListener("input", dials);
$("dials").open = matchMedia("(min-width: 901px)").matches;
$("round").classList.add("idle");
if ($("seen")) firstUse();
dials();
models().catch(() => {}); // The list is a comfort; who cannot be reached is told by the answer.
