// Forms that an authenticator has a part in: it is asked when the button with `data-sign` is pressed, and what it gives
// goes along in the field `signed`. Without this script the form is sent without, and the server says what is missing.
"use strict";

const read = (text) => {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
};

const written = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

const ids = (list) => (list || []).map((each) => ({ ...each, id: read(each.id) }));

const make = async (asked) => {
  const made = await navigator.credentials.create({
    publicKey: {
      ...asked,
      challenge: read(asked.challenge),
      user: { ...asked.user, id: read(asked.user.id) },
      excludeCredentials: ids(asked.excludeCredentials),
    },
  });
  return {
    id: made.id,
    client_data: written(made.response.clientDataJSON),
    attestation: written(made.response.attestationObject),
  };
};

const sign = async (asked) => {
  const signed = await navigator.credentials.get({
    publicKey: { ...asked, challenge: read(asked.challenge), allowCredentials: ids(asked.allowCredentials) },
  });
  return {
    id: signed.id,
    client_data: written(signed.response.clientDataJSON),
    authenticator_data: written(signed.response.authenticatorData),
    signature: written(signed.response.signature),
  };
};

const ASKING = { make, sign };
const WHY = {
  InvalidStateError: "This authenticator has been added already.",
  NotAllowedError: "The authenticator did not confirm, or it took too long. Try again.",
  SecurityError: "This page is open at another address than the one that authenticators are for.",
};

const answered = async (form, how) => {
  const answer = await fetch(form.dataset.ask, {
    method: "POST",
    body: new URLSearchParams({ csrf: form.elements.csrf.value }),
  });
  const isJson = (answer.headers.get("Content-Type") || "").startsWith("application/json");
  if (!answer.ok || !isJson) {
    throw new Error("The authenticator could not be asked. Load the page again, then try again.");
  }
  return ASKING[how](await answer.json());
};

const submitted = async (event) => {
  const form = event.target;
  const button = event.submitter;
  const how = button && button.dataset.sign;
  if (!how || form.elements.signed.value) {
    return;
  }
  event.preventDefault();
  const fault = form.querySelector("[data-fault]");
  fault.hidden = true;
  button.disabled = true;
  try {
    if (!window.PublicKeyCredential) {
      throw new Error("This browser cannot use authenticators.");
    }
    form.elements.signed.value = JSON.stringify(await answered(form, how));
    button.disabled = false;
    form.requestSubmit(button);
  } catch (error) {
    button.disabled = false;
    fault.textContent = WHY[error.name] || error.message;
    fault.hidden = false;
  }
};

for (const form of document.querySelectorAll("form[data-ask]")) {
  form.addEventListener("submit", submitted);
}
