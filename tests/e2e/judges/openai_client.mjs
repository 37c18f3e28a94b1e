// The npm package `openai` against a node: node openai_client.mjs URL
import OpenAI, { NotFoundError } from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const asked = { model: "swarm", messages, max_tokens: 200 };
const schema = {
  type: "object",
  properties: { kind: { enum: ["a", "b"] } },
  required: ["kind"],
  additionalProperties: false,
};
const tool = {
  type: "function",
  function: { name: "get_kind", description: "Tells a kind.", parameters: schema, parse: JSON.parse },
};

function check(found, what) {
  if (!found) throw new Error(what);
}

const cases = {
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    check(ids.includes("swarm"), ids);
  },
  async whole() {
    const found = await client.chat.completions.create(asked);
    check(found.choices[0].message.content, "no text");
    check(found.usage.completion_tokens > 0, "no usage");
  },
  async streamed() {
    const stream = client.chat.completions.stream(asked);
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    check(text && text === (await stream.finalContent()), text);
  },
  async parsed() {
    const json_schema = { name: "kind", schema, strict: true };
    const response_format = { type: "json_schema", json_schema };
    const found = await client.chat.completions.parse({ ...asked, response_format });
    check("ab".includes(JSON.parse(found.choices[0].message.content).kind), "no kind");
  },
  async tools() {
    const more = { tools: [tool], tool_choice: "required" };
    const found = await client.chat.completions.create({ ...asked, ...more });
    check(found.choices[0].message.tool_calls[0].function.name === "get_kind", "no call");
  },
  async responses() {
    const found = await client.responses.create({ model: "swarm", input: "Say hello.", max_output_tokens: 100 });
    check(found.output_text, "no text");
    const types = [];
    const stream = await client.responses.create({ model: "swarm", input: "Hello.", max_output_tokens: 60, stream: true });
    for await (const event of stream) types.push(event.type);
    check(types[0] === "response.created", types);
  },
  async refused() {
    try {
      await client.chat.completions.create({ ...asked, model: "nobody" });
    } catch (error) {
      return check(error instanceof NotFoundError, error);
    }
    throw new Error("an unknown model was answered");
  },
};

const found = {};
for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    found[name] = "";
  } catch (error) {
    found[name] = String(error.stack ?? error);
  }
}
console.log(JSON.stringify(found));
