/** Runs the NBD tools of other projects: as clients once, as servers until the test is done. */
import { execFile, spawn } from "node:child_process";
import { connect } from "node:net";
import { promisify } from "node:util";

const run = promisify(execFile);

/** What the program printed on stdout; rejects when it failed. */
export async function tool(name: string, ...args: string[]): Promise<string> {
  return (await run(name, args, { maxBuffer: 64 << 20 })).stdout;
}

export interface PeerServer {
  /** By default politely; "SIGKILL" as by a crash. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Starts a server that stays in the foreground and resolves when its socket answers. */
export async function peerServer(socket: string, name: string, ...args: string[]): Promise<PeerServer> {
  const child = spawn(name, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (text) => (said += text));
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (signal: NodeJS.Signals = "SIGTERM") => {
    child.kill(signal);
    await exited;
  };
  for (let waited = 0; !(await answers(socket)); waited += 10) {
    if (child.exitCode !== null || waited > 10_000) {
      await stop();
      throw new Error(`${name} ${args.join(" ")} did not listen on ${socket}: ${said}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return { stop };
}

/** A socket's file is there before anybody listens on it, so only a connection tells. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path }, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on("error", () => resolve(false));
  });
}
