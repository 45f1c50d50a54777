// @saintno/comfyui-sdk: ComfyPool with a CallWrapper for every prompt. Told in one line of JSON.
import { CallWrapper, ComfyApi, ComfyPool, EQueueMode, PromptBuilder } from "@saintno/comfyui-sdk";

const work = JSON.parse(process.argv[2]);
const pool = new ComfyPool(work.urls.map((url, at) => new ComfyApi(url, `bench-${at}-${process.pid}`)), EQueueMode.PICK_ZERO);
const back = {}, failed = [];

async function run(api) {
  const prompt = new PromptBuilder(work.workflow, ["seed"], ["images"])
    .setInputNode("seed", "5.inputs.seed")
    .setOutputNode("images", "7")
    .input("seed", Math.floor(Math.random() * 2 ** 32));
  let id;
  const call = new CallWrapper(api, prompt).onPending((given) => (id = given));
  if ((await call.run()) === false) throw new Error("the pool's call gave false");
  back[id] = Number(process.hrtime.bigint());
}

function attempt(api) {
  return run(api).catch((error) => failed.push(String(error).slice(0, 200)));
}

async function many(prompts) {
  await pool.batch(Array.from({ length: prompts }, () => attempt));
}

await many(work.urls.length);
for (const id of Object.keys(back)) delete back[id];
failed.length = 0;
const before = process.cpuUsage(), begun = performance.now();
await many(work.prompts);
const spent = process.cpuUsage(before);
console.log("\n" + JSON.stringify({
  cpu_s: (spent.user + spent.system) / 1e6,
  wall_s: (performance.now() - begun) / 1e3,
  back_ns: back,
  failed: failed.slice(0, 3),
  failures: failed.length,
}));
process.exit(0);
