// The Safety page: a vote is shown once more with what it will do, and sent with the passphrase of the voter's key; so is a proposal.
import { post, refresh, say, sentence } from "./console.js";
const $ = (id) => document.getElementById(id);

let send = null; // What the dialog sends: the path, and what makes the fields besides the key and its passphrase.

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.vote) openVote(button.dataset.on, button.dataset.vote);
  if (button?.id === "propose") openProposal();
});

function openVote(id, said) {
  send = { path: "/api/vote", fields: () => ({ id, yes: said === "yes" }) };
  const about = $(`about-${id}`).content.cloneNode(true); // Escaped by the node's templates.
  for (const one of about.querySelectorAll("[data-says]")) if (one.dataset.says !== said) one.remove();
  open(`Vote ${said}`, about);
}

function openProposal() {
  const fields = () => ({ setting: $("propose-setting").value, value: $("propose-value").valueAsNumber, why: $("propose-why").value });
  send = { path: "/api/propose", fields };
  const about = $("about-propose").content.cloneNode(true);
  $("propose-setting").replaceChildren(...about.querySelectorAll("option[data-for=setting]"));
  $("propose-value").value = $("propose-why").value = "";
  open("Propose a setting", about);
}

function open(title, about) {
  const keys = [...about.querySelectorAll("option[data-for=key]")];
  for (const one of keys) one.remove();
  const isProposal = send.path === "/api/propose";
  $("vote-title").textContent = isProposal ? title : `${title}?`;
  $("vote-send").textContent = isProposal ? "Propose" : title;
  $("vote-about").replaceChildren(about);
  $("propose-rows").hidden = !isProposal;
  for (const one of ["propose-value", "propose-why"]) $(one).required = isProposal;
  $("vote-key").replaceChildren(...keys);
  $("vote-pass-row").hidden = keys[0].value === ""; // The node's own key has no passphrase.
  $("vote-pass").required = !$("vote-pass-row").hidden;
  $("vote-pass").value = "";
  fault("");
  $("vote").showModal();
  $(isProposal ? "propose-setting" : keys.length > 1 ? "vote-key" : $("vote-pass-row").hidden ? "vote-send" : "vote-pass").focus();
}

function fault(text) {
  $("vote-fault").textContent = text;
  $("vote-fault").hidden = !text;
}

$("vote-cancel").onclick = () => $("vote").close();
$("vote").onclose = () => ($("vote-pass").value = "");

$("vote").firstElementChild.onsubmit = async (event) => {
  event.preventDefault();
  if ($("vote-send").disabled) return;
  const key = $("vote-key").value;
  const body = key ? { ...send.fields(), key, passphrase: $("vote-pass").value } : send.fields();
  $("vote-send").disabled = true;
  fault("");
  try {
    const got = await post(send.path, body);
    if (got === null) return;
    if (!got.ok) {
      fault(await sentence(got));
      $("vote-pass").value = "";
      return $("vote-pass").focus();
    }
    const told = await got.json();
    $("vote").close();
    say(heard(told));
    refresh();
  } catch {
    fault("The node cannot be reached.");
  } finally {
    $("vote-send").disabled = false;
  }
};

function heard({ event, yes, signed_by, fault, proposal }) {
  const by = `${event === "voted" ? `Voted ${yes ? "yes" : "no"}` : "Proposed"}, signed by ${signed_by}.`;
  if (fault) return `${by} The node could not write it down yet and keeps trying: ${fault}`;
  return `${by} ${proposal.yes.length} of ${proposal.needs} votes for it: ${proposal.state}.`;
}
