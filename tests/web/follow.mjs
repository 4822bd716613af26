// Prints the events of one turn, a line each: node follow.mjs URL KEY MODEL QUESTION; or why there are none.

import { Api, Problem } from "../../service/api/web/assets/api.js";
import { follow } from "../../service/api/web/assets/stream.js";

const [url, key, model, content] = process.argv.slice(2);
const body = { model, messages: [{ role: "user", content }] };
const wait = (failures) => console.log(JSON.stringify({ type: "waiting", data: failures }));
try {
  for await (const event of follow(new Api(key, url), { path: "/chat/completions/stream", body }, { wait })) {
    console.log(JSON.stringify(event));
  }
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  console.log(JSON.stringify({ type: "problem", data: { status: error.status, message: error.message } }));
}
