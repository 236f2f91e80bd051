/** Another Node process that runs a few lines, for tests of locks and of sudden deaths. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { afterEach } from "vitest";
import { tempDir } from "./temp-dir.js";

export interface Child {
  readonly pid: number;
  /** The next line that it prints; fails with its stderr when it ends before. */
  line(): Promise<string>;
  /** Sends the signal (none: waits) and resolves with its exit code, or the signal that ended it. */
  end(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

const running = new Set<ChildProcess>();

afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
  running.clear();
});

/** The URL of a built module, to be imported by a child's script. */
export const built = (path: string): string => JSON.stringify(import.meta.resolve(`#src/${path}`));

/** Runs a script with top-level await; `prefix` is a command that starts Node (`["prlimit", "--fsize=1000"]`). */
export function startNode(script: string, prefix: readonly string[] = []): Child {
  const [program, ...args] = [...prefix, process.execPath, "--input-type=module", "-e", script];
  // A folder of its own for temporary files: what a killed child leaves there goes away with the test.
  const child = spawn(program!, args, {
    env: { ...process.env, TMPDIR: tempDir() },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let stderr = "";
  child.stderr.on("data", (text: Buffer) => {
    stderr += text.toString();
  });
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.on("close", (code, signal) => {
      running.delete(child);
      resolve(signal ?? code ?? -1);
    });
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    pid: child.pid!,
    async line() {
      const next = await lines.next();
      if (next.done) throw new Error(`the child ended early: ${stderr}`);
      return next.value;
    },
    end(signal) {
      if (signal) child.kill(signal);
      return ended;
    },
  };
}
