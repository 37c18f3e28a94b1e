// The Safety page: a vote is shown once more with what it will do, and sent with the passphrase of the voter's key.
import { post, refresh, say, sentence } from "./console.js";
const $ = (id) => document.getElementById(id);

let vote = null; // What the dialog asks about: the id of a proposal, and whether the vote is for it.

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-vote]");
  if (button) open(button.dataset.on, button.dataset.vote);
});

function open(id, said) {
  const about = $(`about-${id}`).content.cloneNode(true); // Escaped by the node's templates.
  const options = [...about.querySelectorAll("option")];
  for (const one of about.querySelectorAll("[data-says]")) if (one.dataset.says !== said) one.remove();
  for (const one of options) one.remove();
  vote = { id, yes: said === "yes" };
  $("vote-title").textContent = `Vote ${said}?`;
  $("vote-send").textContent = `Vote ${said}`;
  $("vote-about").replaceChildren(about);
  $("vote-key").replaceChildren(...options);
  $("vote-pass-row").hidden = options[0].value === ""; // The node's own key has no passphrase.
  $("vote-pass").required = !$("vote-pass-row").hidden;
  $("vote-pass").value = "";
  fault("");
  $("vote").showModal();
  (options.length > 1 ? $("vote-key") : $("vote-pass-row").hidden ? $("vote-send") : $("vote-pass")).focus();
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
  const body = key ? { ...vote, key, passphrase: $("vote-pass").value } : vote;
  $("vote-send").disabled = true;
  fault("");
  try {
    const got = await post("/api/vote", body);
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

function heard({ yes, signed_by, fault, proposal }) {
  const by = `Voted ${yes ? "yes" : "no"}, signed by ${signed_by}.`;
  if (fault) return `${by} The node could not write it down yet and keeps trying: ${fault}`;
  return `${by} ${proposal.yes.length} of ${proposal.needs} votes for it: ${proposal.state}.`;
}
