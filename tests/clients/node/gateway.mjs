// A fake provider and a real Pillion for the Node tests; `fake.py` says what the provider can do.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../../..');
const binary = process.env.PILLION_BIN ?? join(root, 'target/release/pillion');
export const KEY = 'sk-provider-secret-7f3a9c';
export const HELLO = [{ role: 'user', content: 'hello' }];

export async function until(holds, complaint, within = 10_000) {
  const end = Date.now() + within;
  for (;;) {
    const got = await holds();
    if (got) return got;
    if (Date.now() > end) throw new Error(`${complaint()} (waited ${within} ms)`);
    await new Promise((wake) => setTimeout(wake, 5));
  }
}

function freePort() {
  return new Promise((found) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });
}

/** The fake, in a process of its own: `lane(…replies)` makes a lane. */
export async function startFake() {
  const child = spawn(process.env.PYTHON ?? 'python3', [join(here, '../fake.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
  const base = await new Promise((found, failed) => {
    createInterface(child.stdout).once('line', found);
    child.once('exit', (code) => failed(new Error(`fake.py ended with ${code}`)));
  });
  let made = 0;
  const control = async (name, method, body) => (await fetch(`${base}/__fake__/${name}`, { method, body })).json();
  return {
    async lane(...replies) {
      const name = `node${++made}`;
      const lane = {
        url: `${base}/${name}/v1`,
        script: (...next) => control(name, 'PUT', JSON.stringify(next)),
        seen: () => control(name, 'GET'),
        closed: () => until(async () => (await lane.seen()).at(-1)?.closed && (await lane.seen()).at(-1), () => `${name}: the client never left`),
      };
      if (replies.length) await lane.script(...replies);
      return lane;
    },
    stop: () => child.stdin.end(),
  };
}

/** Pillion with one deployment per lane: `startGateway({gpt: lane}, {num_retries: 0})`. */
export async function startGateway(lanes, router = {}) {
  const home = await mkdtemp(join(tmpdir(), 'pillion-'));
  const [port, admin] = [await freePort(), await freePort()];
  const config = {
    model_list: Object.entries(lanes).map(([model_name, lane]) => ({
      model_name, litellm_params: { model: 'openai/gpt-4o-mini', api_base: lane.url, api_key: KEY },
    })),
    router_settings: { num_retries: 0, ...router },
  };
  const file = join(home, 'config.yaml');
  await writeFile(file, JSON.stringify(config, null, 1)); // JSON is YAML
  const args = ['serve', '-c', file, '--listen', `127.0.0.1:${port}`, '--admin', `127.0.0.1:${admin}`, '--state-dir', join(home, 'state')];
  const child = spawn(binary, args, { env: { PATH: process.env.PATH, HOME: home }, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const pipe of [child.stdout, child.stderr]) pipe.on('data', (piece) => { log += piece; });
  const ended = new Promise((done) => child.once('exit', (code) => done(code)));
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`the gateway ended with ${child.exitCode}:\n${log}`);
    return fetch(`http://127.0.0.1:${admin}/health/ready`).then((got) => got.ok, () => false);
  }, () => `the gateway is not ready:\n${log}`);
  return {
    client: (more = {}) => new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: 'sk-client', maxRetries: 0, ...more }),
    log: () => log,
    async stop() {
      child.kill('SIGTERM');
      const code = await ended;
      await rm(home, { recursive: true });
      if (code !== 0 || log.includes(KEY)) throw new Error(`the gateway ended with ${code}:\n${log}`);
    },
  };
}
