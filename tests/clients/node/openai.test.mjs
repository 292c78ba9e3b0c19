// The OpenAI Node SDK against OpenAI-compatible deployments.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import OpenAI from 'openai';
import { HELLO, KEY, startFake, startGateway } from './gateway.mjs';

let fake, lane, gateway, client;
before(async () => { fake = await startFake(); });
after(() => fake.stop());
beforeEach(async () => {
  lane = await fake.lane();
  gateway = await startGateway({ gpt: lane }, { disable_cooldowns: true });
  client = gateway.client();
});
afterEach(async (test) => {
  if (test.error ?? test.passed === false) console.error(gateway.log());
  await gateway.stop();
});

const ask = (more = {}, options) => client.chat.completions.create({ model: 'gpt', messages: HELLO, ...more }, options);
const calls = [['call_1', 'get_weather', '{"city":"Zürich"}'], ['call_2', 'get_time', '{"city":"東京"}']];
const tools = ['get_weather', 'get_time'].map((name) => ({ type: 'function', function: { name, parameters: { type: 'object', properties: {} } } }));

describe('plain', () => {
  it('an answer arrives under the asked name', async () => {
    const got = await ask({ temperature: 0.5 });
    assert.equal(got.choices[0].message.content, 'Hello from upstream.');
    assert.equal(got.model, 'gpt');
    assert.equal(got.usage.total_tokens, 18);
    const [seen] = await lane.seen();
    assert.deepEqual(seen.json, { model: 'gpt-4o-mini', messages: HELLO, temperature: 0.5 });
    assert.equal(seen.headers.authorization, `Bearer ${KEY}`);
  });

  it('tools pass both ways', async () => {
    await lane.script({ kind: 'chat', tools: calls });
    const got = await ask({ tools, parallel_tool_calls: true });
    assert.equal(got.choices[0].finish_reason, 'tool_calls');
    assert.deepEqual(got.choices[0].message.tool_calls.map((c) => [c.id, c.function.name, c.function.arguments]), calls);
    assert.deepEqual((await lane.seen())[0].json.tools, tools);
  });

  it('vision parts pass', async () => {
    const content = [{ type: 'text', text: 'what?' }, { type: 'image_url', image_url: { url: 'data:image/png;base64,iVBORw0KGgo=' } }];
    await ask({ messages: [{ role: 'user', content }] });
    assert.deepEqual((await lane.seen())[0].json.messages[0].content, content);
  });

  it('embeddings arrive', async () => {
    const got = await client.embeddings.create({ model: 'gpt', input: ['a', 'b'] });
    assert.deepEqual(got.data.map((row) => [...row.embedding]), [[0, 0.125, 0.25, 0.375], [1, 1.125, 1.25, 1.375]]);
  });

  it('responses pass', async () => {
    const got = await client.responses.create({ model: 'gpt', input: 'hello' });
    assert.equal(got.output_text, 'Hello from responses.');
    assert.equal(got.model, 'gpt');
  });

  it('models are listed', async () => {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.deepEqual(names, ['gpt']);
  });
});

describe('streamed', () => {
  it('text arrives in chunks, without usage unless asked', async () => {
    let text = '';
    for await (const chunk of await ask({ stream: true })) {
      assert.equal(chunk.choices.length, 1);
      assert.equal(chunk.usage ?? null, null);
      assert.equal(chunk.model, 'gpt');
      text += chunk.choices[0].delta.content ?? '';
    }
    assert.equal(text, 'Hello from upstream.');
    assert.equal((await lane.seen())[0].json.stream_options.include_usage, true);
  });

  it('usage arrives when asked for', async () => {
    const chunks = [];
    for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) chunks.push(chunk);
    assert.deepEqual(chunks.filter((c) => c.usage).map((c) => c.usage.total_tokens), [18]);
    assert.deepEqual(chunks.at(-1).choices, []);
  });

  it('tool arguments add up', async () => {
    await lane.script({ kind: 'chat', tools: calls });
    const final = await client.chat.completions.stream({ model: 'gpt', messages: HELLO, tools }).finalChatCompletion();
    assert.deepEqual(final.choices[0].message.tool_calls.map((c) => [c.id, c.function.name, c.function.arguments]), calls);
  });

  it('a cut stream throws', async () => {
    await lane.script({ kind: 'chat', text: 'one two three', cut: 3 });
    let text = '';
    await assert.rejects(async () => {
      for await (const chunk of await ask({ stream: true })) text += chunk.choices[0].delta.content ?? '';
    }, OpenAI.APIError);
    assert.match(text, /^one /);
  });
});

describe('errors', () => {
  const classes = {
    400: OpenAI.BadRequestError, 401: OpenAI.AuthenticationError, 403: OpenAI.PermissionDeniedError, 404: OpenAI.NotFoundError,
    408: OpenAI.APIError, 409: OpenAI.ConflictError, 413: OpenAI.APIError, 422: OpenAI.UnprocessableEntityError,
    429: OpenAI.RateLimitError, 500: OpenAI.InternalServerError, 502: OpenAI.InternalServerError, 503: OpenAI.InternalServerError,
  };
  for (const stream of [false, true]) {
    it(`keep their class, ${stream ? 'streamed' : 'plain'}`, async () => {
      for (const [status, kind] of Object.entries(classes)) {
        await lane.script({ kind: 'error', status: Number(status), message: 'the reason is blue' });
        await assert.rejects(ask({ stream }), (error) => {
          assert.ok(error instanceof kind, `${status}: ${error.constructor.name}`);
          assert.equal(error.status, Number(status));
          assert.match(error.message, /the reason is blue/);
          return true;
        });
      }
    });
  }

  it('an unknown model names the models there are', async () => {
    await assert.rejects(ask({ model: 'gtp' }), /gpt/);
    assert.equal((await lane.seen()).length, 0);
  });
});

describe('aborts', () => {
  it('an aborted call ends upstream', async () => {
    await lane.script({ kind: 'chat', hang: 0 });
    const abort = new AbortController();
    const call = ask({}, { signal: abort.signal });
    const failed = assert.rejects(call, OpenAI.APIUserAbortError);
    while (!(await lane.seen()).length);
    abort.abort();
    await failed;
    await lane.closed();
  });

  it('an aborted stream ends upstream', async () => {
    await lane.script({ kind: 'chat', text: 'one two three', hang: 3 });
    const stream = await ask({ stream: true });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break; // leaving the loop aborts
    await lane.closed();
    assert.equal((await lane.seen()).length, 1);
  });
});

describe('64 at once', () => {
  for (const stream of [false, true]) {
    it(stream ? 'streamed' : 'plain', async () => {
      await lane.script({ kind: 'chat', delay: 0.1, gap: 0.01 });
      const one = async () => {
        const got = await ask({ stream });
        if (!stream) return got.choices[0].message.content;
        let text = '';
        for await (const chunk of got) text += chunk.choices[0].delta.content ?? '';
        return text;
      };
      const all = await Promise.all(Array.from({ length: 64 }, one));
      assert.deepEqual(new Set(all), new Set(['Hello from upstream.']));
      assert.equal((await lane.seen()).length, 64);
    });
  }
});
