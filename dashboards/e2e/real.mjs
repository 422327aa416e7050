// Real processes for tests in the browser: a hub and agents with folders of their own, killed and started as a test
// wants, and a line between them that can be cut.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { openSync } from 'node:fs';
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch, until } from './drive.mjs';
import { front } from './front.mjs';

/** What processes are told in their environment: nothing of the caller's that is meant for others. */
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TIDELINE_')));
/** A folder with the app, in place of the one that is built into the hub. */
const DIST = process.env.TIDELINE_DIST ?? '';
/** Lines of a log that are shown of a process that a test has failed with. */
const TAIL = 20;

/** Ports that nobody listens on, held at once so that they differ. */
export async function freePorts(count) {
  const held = Array.from({ length: count }, () => createServer());
  await Promise.all(held.map((server) => new Promise((ready) => { server.listen(0, '127.0.0.1', ready); })));
  const ports = held.map((server) => server.address().port);
  await Promise.all(held.map((server) => new Promise((done) => { server.close(done); })));
  return ports;
}

/** What a program says, given something to read; it is to end well. */
function said(program, args, { env = {}, input = '' } = {}) {
  return new Promise((done, fail) => {
    const child = spawn(program, args, { env: { ...ENV, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    let [out, err] = ['', ''];
    child.stdout.on('data', (text) => { out += text; });
    child.stderr.on('data', (text) => { err += text; });
    child.on('error', fail);
    child.on('close', (code) => (code === 0 ? done(out.trim()) : fail(new Error(`${program} ${args.slice(0, 2).join(' ')} ended with ${code}: ${err}`))));
    child.stdin.end(input);
  });
}

/** A process that is started and ended. */
class Running {
  #child = null;

  constructor(log) {
    this.log = log;
  }

  begin(program, args, env = {}) {
    const log = openSync(this.log, 'a');
    this.#child = spawn(program, args, { env: { ...ENV, ...env }, stdio: ['ignore', log, log] });
  }

  signal(name) {
    this.#child?.kill(name);
  }

  /** Ends it, and waits until it is gone. */
  async end(signal) {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((done) => { child.once('exit', done); });
    child.kill(signal);
    await gone;
  }
}

/** A hub on free ports; they stay the same over restarts. */
class Hub extends Running {
  constructor(program, folder, [http, https, quic]) {
    super(join(folder, 'hub.log'));
    Object.assign(this, { program, data: join(folder, 'hub'), http, https, quic, url: `http://127.0.0.1:${http}` });
  }

  async start() {
    const at = (port) => `127.0.0.1:${port}`;
    this.begin(this.program, ['serve', '--data', this.data], {
      TIDELINE_HTTP_LISTEN: at(this.http), TIDELINE_HTTPS_LISTEN: at(this.https), TIDELINE_QUIC_LISTEN: at(this.quic), TIDELINE_MQTT_LISTEN_TLS: '',
      TIDELINE_HUB_PUBLIC_ADDRESS: '127.0.0.1',
    });
    await until('a hub that is ready', async () => (await fetch(`http://127.0.0.1:${this.http}/readyz`).catch(() => null))?.ok === true);
  }

  say(args, input) {
    return said(this.program, [...args, '--data', this.data], { input });
  }
}

class Agent extends Running {
  constructor(program, folder, device) {
    super(join(folder, `${device}.log`));
    Object.assign(this, { program, device, data: join(folder, device), config: join(folder, `${device}.toml`) });
  }

  start() {
    this.begin(this.program, ['run', '--data', this.data, '--config', this.config]);
  }

  say(args) {
    return said(this.program, [...args, '--data', this.data]);
  }
}

/** A line of UDP to a port here, which can be cut. */
export class Line {
  cut = false;
  #front = createSocket('udp4');
  #backs = new Map();

  async start(to) {
    await new Promise((ready) => { this.#front.bind(0, '127.0.0.1', ready); });
    this.port = this.#front.address().port;
    this.#front.on('message', (packet, { port }) => {
      if (!this.cut) this.#back(port, to).send(packet, to, '127.0.0.1');
    });
  }

  #back(client, to) {
    let back = this.#backs.get(client);
    if (back === undefined) {
      back = createSocket('udp4');
      back.on('message', (packet, { port }) => {
        if (!this.cut && port === to) this.#front.send(packet, client, '127.0.0.1');
      });
      // Nobody may be there while the hub starts again.
      back.on('error', () => undefined);
      this.#backs.set(client, back);
    }
    return back;
  }

  close() {
    this.#front.close();
    for (const back of this.#backs.values()) back.close();
  }
}

/** A folder for all that one test starts; `close` ends it and takes it away. */
export class Site {
  #all = [];
  #lines = [];

  static async open(binaries) {
    const site = new Site();
    site.binaries = binaries;
    site.folder = await mkdtemp(join(tmpdir(), 'tideline-web-'));
    // What is ended from outside leaves nothing running.
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void site.close().finally(() => process.exit(130)));
    return site;
  }

  /** A site and a browser for as long as `test` takes; where that fails, what the processes said last is told. */
  static async use(binaries, test) {
    await access(join(binaries, 'cloud-hub')).catch(() => { throw new Error('TIDELINE_BIN is to name the folder of cloud-hub and edge-agent'); });
    const site = await Site.open(binaries);
    const browser = await launch();
    try {
      await test(site, browser);
    } catch (error) {
      console.error(await site.tails());
      throw error;
    } finally {
      await browser.close();
      await site.close();
    }
  }

  async hub() {
    const hub = new Hub(join(this.binaries, 'cloud-hub'), this.folder, await freePorts(3));
    this.#all.push(hub);
    await hub.start();
    if (DIST !== '') {
      const before = await front(DIST, hub.http);
      this.#lines.push(before);
      hub.url = before.url;
    }
    return hub;
  }

  /** A user of the hub, an administrator if nothing else is said. */
  async user(hub, name, role = 'admin') {
    const password = `web-${Math.random()}-${Math.random()}`;
    await hub.say(['user', 'create', name, '--role', role, '--password-stdin'], `${password}\n`);
    return { user: name, password };
  }

  async line(hub) {
    const line = new Line();
    await line.start(hub.quic);
    this.#lines.push(line);
    return line;
  }

  /** An agent that has enrolled and runs. */
  async agent(hub, device, config) {
    const agent = new Agent(join(this.binaries, 'edge-agent'), this.folder, device);
    await mkdir(agent.data, { recursive: true });
    await writeFile(agent.config, config);
    await agent.say(['enroll', await hub.say(['enroll-token', 'create', '--device', device])]);
    this.#all.push(agent);
    agent.start();
    return agent;
  }

  /** An agent of somebody who pastes a line into a shell, and then what else the page says; nothing is added to either. */
  async pasted(device, line, then) {
    const env = {
      PATH: `${this.binaries}:${process.env.PATH}`, TIDELINE_AGENT_DATA_DIR: join(this.folder, device), TIDELINE_AGENT_HTTP_LISTEN: '',
    };
    const told = await said('/bin/sh', ['-c', line], { env });
    const agent = new Running(join(this.folder, `${device}.log`));
    this.#all.push(agent);
    agent.begin('/bin/sh', ['-c', `exec ${then}`], env);
    return told;
  }

  async tails() {
    const logs = await Promise.all(this.#all.map(async ({ log }) => `${log}\n${(await readFile(log, 'utf8')).split('\n').slice(-TAIL).join('\n')}`));
    return logs.join('\n');
  }

  async close() {
    for (const one of this.#all.reverse()) {
      // One that stands still hears nothing else.
      one.signal('SIGCONT');
      await one.end('SIGKILL');
    }
    this.#lines.forEach((line) => line.close());
    await rm(this.folder, { recursive: true, force: true });
  }
}
