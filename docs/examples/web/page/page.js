// Asks for a picture, follows it by server-sent events, shows it. Whatever is shown goes in as text or as an
// image source, never as HTML.

const at = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let busy = false; // from the click to the end
let current = null; // {id, events}: the job that this page follows

at("wish").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return;
  begin();
  try {
    follow(await ask("POST", "generate", wish()));
  } catch (error) {
    end("Not started.", error.message);
  }
});

at("cancel").addEventListener("click", async () => {
  at("generate").focus(); // the button that had it goes
  at("cancel").hidden = true;
  tell("Stopping …");
  try {
    await ask("DELETE", `jobs/${current.id}`);
  } catch (error) {
    trouble(error.message);
    at("cancel").hidden = current === null;
  }
});

function wish() {
  const [width, height] = at("size").value.split("x").map(Number);
  const seed = at("seed").value;
  return {
    prompt: at("prompt").value,
    negative: at("negative").value,
    width,
    height,
    steps: Number(at("steps").value),
    seed: seed === "" ? null : Number(seed),
  };
}

async function ask(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  }).catch(() => {
    throw new Error("The studio does not answer. Is it running?");
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(sentence(said) || `The studio answered ${answer.status}.`);
  return said;
}

const sentence = (said) => [said.error, said.hint].filter(Boolean).join(" ");

function follow(order) {
  const events = new EventSource(order.events);
  current = { id: order.id, events };
  at("cancel").hidden = false;
  const on = (name, heard) => events.addEventListener(name, (event) => heard(JSON.parse(event.data)));
  on("progress", progress);
  on("preview", (source) => show(source, "preview"));
  on("done", done);
  on("failed", failed);
  events.onerror = () => {
    // It comes back by itself, unless the job is not known any more.
    if (events.readyState === EventSource.CLOSED) end("Lost.", "The studio no longer knows this job.");
    else tell("Connecting again …");
  };
}

function begin() {
  working(true);
  at("trouble").hidden = true;
  at("open").hidden = true;
  at("bar").value = 0;
  tell("Sending …");
  // On a phone the picture lies below.
  at("stage").parentElement.scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
}

// Generate is said to be disabled and keeps the focus: a button that really is loses it.
function working(now) {
  busy = now;
  at("generate").setAttribute("aria-disabled", now);
  at("generate").textContent = now ? "Generating …" : "Generate";
}

// What is shown is also spoken, if it is more than another step.
function tell(words, spoken = words) {
  at("status").textContent = words;
  if (at("spoken").textContent !== spoken) at("spoken").textContent = spoken;
}

function progress(now) {
  at("bar").value = now.fraction;
  tell(words(now), now.state === "queued" ? "Waiting." : `Working, ${Math.floor(now.fraction * 4) * 25} %.`);
}

function words(now) {
  if (now.state === "queued") return now.ahead ? `Waiting, ${now.ahead} before you.` : "Waiting.";
  const step = now.steps > 1 ? `, step ${now.step} of ${now.steps}` : "";
  return now.title ? `${now.title}${step}` : "Working …";
}

function show(source, state) {
  at("picture").src = source;
  at("picture").alt = state === "final" ? at("prompt").value : "A preview";
  at("picture").hidden = false;
  at("empty").hidden = true;
  at("stage").dataset.state = state;
}

function done(made) {
  const [image] = made.images;
  if (!image) return end("Done.", "The workflow made no picture.");
  show(image, "final");
  at("open").href = image;
  at("open").hidden = false;
  at("bar").value = 1;
  const time = made.ran_s === null ? "" : ` in ${made.ran_s.toFixed(1)} s`;
  end(`Done${time}. Seed ${made.seed}`);
}

function failed(said) {
  if (said.outcome === "cancelled") end("Cancelled.");
  else end("Failed.", sentence(said));
}

function end(status, message) {
  current?.events.close();
  current = null;
  if (document.activeElement === at("cancel")) at("generate").focus();
  at("cancel").hidden = true;
  working(false);
  tell(status);
  if (message) trouble(message);
}

function trouble(message) {
  at("trouble").textContent = message;
  at("trouble").hidden = false;
  at("trouble").scrollIntoView({ block: "nearest" });
}
