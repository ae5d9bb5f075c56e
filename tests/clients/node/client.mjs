// One call of the official Node client, its outcome as JSON: node client.mjs SCENARIO BASE_URL MODEL.
// The client is found beside the package.json that $NODE_CLIENT_DIR names.

import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_CLIENT_DIR + "/");
const { OpenAI } = require("openai");

const [scenario, baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const greedy = { model, messages, temperature: 0, max_tokens: 12 };

const shared = (response) => ({
  cache: response.headers.get("x-mlx-cache"),
  cacheKey: response.headers.get("x-mlx-cache-key"),
  age: response.headers.get("age"),
  requestId: response.headers.get("x-request-id"),
});

const scenarios = {
  async whole(fields = {}) {
    const { data, response } = await client.chat.completions.create({ ...greedy, ...fields })
      .withResponse();
    return { text: data.choices[0].message.content, finish: data.choices[0].finish_reason,
             usage: data.usage, ...shared(response) };
  },

  async stream() {
    const { data, response } = await client.chat.completions
      .create({ ...greedy, stream: true, stream_options: { include_usage: true } }).withResponse();
    let text = "", chunks = 0, usage = null;
    for await (const chunk of data) {
      chunks += 1;
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    return { text, chunks, usage, ...shared(response) };
  },

  async error() {
    try {
      await client.chat.completions.create({ ...greedy, temperature: -1 });
      return { name: null };
    } catch (error) {
      return { name: error.constructor.name, status: error.status, param: error.param,
               requestId: error.requestID };
    }
  },

  // The same request twice: the second is another's answer and says so.
  async twice() {
    const text = `A question of its own: ${process.pid} ${Date.now()}`;
    const fields = { messages: [{ role: "user", content: text }], max_tokens: 4 };
    return [await scenarios.whole(fields), await scenarios.whole(fields)];
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
