/** `xvd serve` as a user runs it: where it listens, what it says, when and how it ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { connectNbd } from "#src/nbd/client.js";
import { CMD, NBD_ERRNO } from "#src/nbd/codes.js";
import { XVD, type XvdWorld, xvdWorld } from "../support/xvd.js";
import { RawClient } from "./raw-client.js";

const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
  running.clear();
});

interface Serving {
  readonly lines: string[];
  /** Exit code and what it said on stderr. */
  readonly ended: Promise<{ code: number | null; stderr: string }>;
  end(signal: NodeJS.Signals): Promise<{ code: number | null; stderr: string }>;
}

/** Resolves when the first `count` lines are printed. */
async function serve(world: XvdWorld, args: readonly string[], count = 1): Promise<Serving> {
  const child = spawn(process.execPath, [XVD, "serve", ...args], {
    cwd: world.dir,
    env: { ...process.env, ...world.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let stderr = "";
  child.stderr.on("data", (text: Buffer) => (stderr += text));
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) =>
    child.once("close", (code) => resolve({ code, stderr })),
  );
  const lines: string[] = [];
  const reader = createInterface(child.stdout);
  await new Promise<void>((resolve, reject) => {
    reader.on("line", (line) => lines.push(line) === count && resolve());
    void ended.then(() => reject(new Error(`xvd serve ended: ${stderr}`)));
  });
  const end = (signal: NodeJS.Signals) => {
    child.kill(signal);
    return ended;
  };
  return { lines, ended, end };
}

async function worldWith(...disks: string[]): Promise<XvdWorld> {
  const world = xvdWorld();
  for (const disk of disks) await world.xvd("create", disk, "4M");
  return world;
}

test("prints the URI when clients can connect, holds the lock, and ends cleanly on SIGTERM", async () => {
  const world = await worldWith("a.dsk");
  const socket = world.path("s");
  const serving = await serve(world, ["a.dsk", "--socket", socket, "--name", "one"]);
  expect(serving.lines).toEqual([`nbd+unix:///one?socket=${socket}`]);
  const client = await connectNbd(serving.lines[0]!);
  await client.write(4096, Buffer.alloc(512, 0x5a));
  const locked = await world.run(["info", "a.dsk"]);
  expect([locked.code, locked.stderr]).toEqual([1, expect.stringContaining("in use by xvd serve")]);
  const unknown = await world.run(["info", `nbd+unix:///two?socket=${socket}`]);
  expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('there is no export \\"two\\"')]);
  expect(await serving.end("SIGTERM")).toEqual({ code: 0, stderr: "" });
  expect(existsSync(socket)).toBe(false);
  await client.close();
  await world.xvd("io", "a.dsk", "-c", "read -P 0x5a 4k 512");
});

test("ends when the last client has left, but not when somebody only looked at the list", async () => {
  const world = await worldWith("a.dsk");
  const socket = world.path("s");
  const { lines, ended } = await serve(world, ["a.dsk", "--socket", socket]);
  const looking = await RawClient.greeted(socket);
  await looking.option(3);
  await looking.close();
  const [first, second] = [await connectNbd(lines[0]!), await connectNbd(lines[0]!)];
  await first.close();
  await second.read(0, Buffer.alloc(512));
  await second.close();
  expect(await ended).toEqual({ code: 0, stderr: "" });
  expect(existsSync(socket)).toBe(false);
});

test("--persistent goes on; --read-only lets nobody write, and shares the disk with readers", async () => {
  const world = await worldWith("a.dsk");
  const socket = world.path("s");
  const serving = await serve(world, ["a.dsk", "--socket", socket, "--persistent", "--read-only"]);
  for (let round = 0; round < 2; round++) {
    const raw = await RawClient.transmitting(socket, "");
    expect(await raw.outcome(CMD.WRITE, 0, 512)).toBe(NBD_ERRNO.EPERM);
    await raw.close();
  }
  await world.xvd("info", "a.dsk");
  expect((await serving.end("SIGINT")).code).toBe(0);
});

describe("a shell that started it in the background and is killed", () => {
  /** `xvd serve` below a shell that waits for it; the pid is xvd's own. */
  async function below(world: XvdWorld, ...args: string[]) {
    const script = '"$@" & echo $!; wait';
    const command = [process.execPath, XVD, "serve", "a.dsk", "--socket", world.path("s"), ...args];
    const shell = spawn("sh", ["-c", script, "sh", ...command], {
      cwd: world.dir,
      env: { ...process.env, ...world.env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    running.add(shell);
    const lines = createInterface(shell.stdout)[Symbol.asyncIterator]();
    const pid = Number((await lines.next()).value);
    const uri: string = (await lines.next()).value;
    const closed = new Promise<void>((resolve) => shell.once("close", () => resolve()));
    return { shell, pid, uri, closed };
  }

  test("takes it along: what was written is on the disk, the socket and the lock are gone", async () => {
    const world = await worldWith("a.dsk");
    const { shell, uri, closed } = await below(world);
    const client = await connectNbd(uri);
    await client.write(4096, Buffer.alloc(512, 0x5a));
    shell.kill("SIGKILL");
    await closed; // its stdout is the server's as well: both have ended
    expect(existsSync(world.path("s"))).toBe(false);
    await client.close();
    await world.xvd("io", "a.dsk", "-c", "read -P 0x5a 4k 512");
  });

  test("but not with --persistent", async () => {
    const world = await worldWith("a.dsk");
    const { shell, pid, uri, closed } = await below(world, "--persistent");
    try {
      const exited = new Promise((resolve) => shell.once("exit", resolve));
      shell.kill("SIGKILL");
      await exited;
      await sleep(500); // more than it takes to see that the shell has gone
      const client = await connectNbd(uri);
      await client.read(0, Buffer.alloc(512));
      await client.close();
    } finally {
      process.kill(pid, "SIGTERM");
      await closed;
    }
    expect(existsSync(world.path("s"))).toBe(false);
  });
});

test("several disks, parts of disks among them, on a TCP port of this machine, told in one document", async () => {
  const world = await worldWith("a.dsk", "b.dsk");
  await world.xvd("part", "init", "b.dsk", "gpt");
  await world.xvd("part", "add", "b.dsk", "--size", "1M");
  const serving = await serve(world, ["a.dsk", "b.dsk#p1", "--port", "0", "--persistent", "--json"], 23);
  const document = JSON.parse(serving.lines.join("\n"));
  expect(document).toMatchObject({ host: "127.0.0.1", tls: false, persistent: true });
  expect(document.exports).toMatchObject([
    { name: "a.dsk", disk: "a.dsk", size: 4 << 20, "read-only": false },
    { name: "b.dsk#p1", disk: "b.dsk#p1", size: 1 << 20 },
  ]);
  expect(document.uri).toBe(`nbd://127.0.0.1:${document.port}/a.dsk`);
  const part = await connectNbd(document.exports[1].uri);
  await part.write(0, Buffer.alloc(512, 9));
  await part.close();
  expect((await serving.end("SIGTERM")).code).toBe(0);
  await world.xvd("io", "b.dsk#p1", "-c", "read -P 9 0 512");
});

test("--tls demands encryption, --tls-optional offers it", async () => {
  const world = await worldWith("a.dsk");
  const socket = world.path("s");
  writeFileSync(world.path("keys.psk"), "alice:00112233445566778899aabbccddeeff\n");
  const secure = `nbds+unix://alice@/?socket=${socket}&tls-psk-file=${world.path("keys.psk")}`;
  for (const [flags, plainly] of [
    [[], 1],
    [["--tls-optional"], 0],
  ] as const) {
    const serving = await serve(world, ["a.dsk", "--socket", socket, "--tls", ".", "--persistent", ...flags]);
    expect(serving.lines[0]).toBe(`nbds+unix:///?socket=${socket}`);
    await world.xvd("io", secure, "-c", "write -P 3 0 64k", "-c", "read -P 3 0 64k");
    expect((await world.run(["info", `nbd+unix:///?socket=${socket}`])).code).toBe(plainly);
    await serving.end("SIGTERM");
  }
});

describe("usage", () => {
  test.each([
    [["a.dsk", "--port", "70000"], 2, "allowed 0..65535"],
    [["a.dsk", "--socket", "s", "--port", "1"], 2, "--socket is given with --port"],
    [["a.dsk", "b.dsk", "--name", "x"], 2, "--name is given for 2 disks"],
    [["a.dsk", "./a.dsk"], 2, 'two of the disks are called "a.dsk"'],
    [["a.dsk", "--tls-optional"], 2, "without --tls"],
    [["a.dsk", "--tls", "."], 1, "no server-cert.pem"],
    [["none.dsk", "--socket", "s"], 1, "no such file"],
  ])("%j", async (args, code, text) => {
    const world = await worldWith("a.dsk");
    const result = await world.run(["serve", ...args]);
    expect([result.code, result.stderr, result.stdout]).toEqual([code, expect.stringContaining(text), ""]);
  });
});
