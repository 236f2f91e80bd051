/** Runs the command as a user would, in a folder, state and socket directory of its own. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import { tempDir } from "./temp-dir.js";

export { tempDir } from "./temp-dir.js";

/** The program under test. */
export const XVD = fileURLToPath(new URL("../../bin/xvd.js", import.meta.url));

export interface XvdResult {
  /** Exit code; null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Sends `signal` when it is aborted; default SIGTERM. */
  readonly abort?: AbortSignal;
  readonly signal?: NodeJS.Signals;
}

/** One user's world: working folder, XVD_HOME and XVD_RUN. Removed, and its daemon stopped, after the test file. */
export interface XvdWorld {
  /** Where commands run; disks named by relative path lie here. */
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  /** The path of a file in `dir`. */
  path(name: string): string;
  /** Runs `xvd ARGS` to its end, whatever its exit code. */
  run(args: readonly string[], options?: RunOptions): Promise<XvdResult>;
  /** Runs `xvd ARGS`, expects exit code 0 and returns stdout. */
  xvd(...args: readonly string[]): Promise<string>;
  /** Runs `xvd ARGS --json`, expects exit code 0 and returns the one document of stdout. */
  json<T = unknown>(...args: readonly string[]): Promise<T>;
  /** Stops the daemon, if one was started; also done after the test file. */
  stop(): Promise<void>;
}

const worlds: XvdWorld[] = [];

afterAll(async () => {
  await Promise.all(worlds.splice(0).map((world) => world.stop()));
});

export function xvdWorld(): XvdWorld {
  const dir = tempDir();
  const env = { XVD_HOME: join(dir, "home"), XVD_RUN: join(dir, "run"), NO_COLOR: "1" };
  const world: XvdWorld = {
    dir,
    env,
    path: (name) => join(dir, name),
    run: (args, options = {}) => runXvd(args, dir, { ...options, env: { ...env, ...options.env } }),
    async xvd(...args) {
      return succeeded(args, await world.run(args)).stdout;
    },
    async json(...args) {
      return JSON.parse(succeeded(args, await world.run([...args, "--json"])).stdout);
    },
    async stop() {
      // Only a daemon that ran made the socket folder; asking costs a process.
      if (existsSync(env.XVD_RUN)) await world.run(["dom0", "stop", "--force"]);
    },
  };
  worlds.push(world);
  return world;
}

function runXvd(args: readonly string[], cwd: string, options: RunOptions): Promise<XvdResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [XVD, ...args], { cwd, env: { ...process.env, ...options.env } });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
    child.stdin.on("error", () => {}); // the command may end before it has read its input
    child.stdin.end(options.input ?? "");
    options.abort?.addEventListener("abort", () => child.kill(options.signal ?? "SIGTERM"), { once: true });
    child.once("error", reject);
    // 'close', not 'exit': a daemon that keeps its starter's pipes open would hang a shell's $(xvd attach) as well.
    child.once("close", (code, signal) =>
      resolve({ code, signal, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }),
    );
  });
}

function succeeded(args: readonly string[], result: XvdResult): XvdResult {
  if (result.code === 0) return result;
  throw new Error(
    `xvd ${args.join(" ")} ended with ${result.signal ?? result.code}: ${result.stderr.trim() || result.stdout.trim()}`,
  );
}
