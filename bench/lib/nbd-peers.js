// The NBD servers that others wrote, each on a unix socket, and fio's nbd engine as the client that measures them.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * @typedef {object} Workload
 * @property {string} rw          as fio names it: "randread", "read" ...
 * @property {number} blockSize   bytes
 * @property {number} depth       requests in flight, on each connection
 * @property {number} [jobs]      connections, each of a process of its own; default 1
 */

/** @typedef {{ name: string, uri: string, stop(): Promise<void> }} NbdServer */

/** Each peer by name: the command that serves `file` on `socket` in the foreground. */
const COMMANDS = {
  "qemu-nbd": (file, socket) => [
    "qemu-nbd",
    "--format=raw",
    "--read-only",
    "--persistent",
    "--shared=0",
    `--socket=${socket}`,
    file,
  ],
  nbdkit: (file, socket) => ["nbdkit", "--foreground", "--exit-with-parent", "--unix", socket, "file", file],
};

export const NBD_PEERS = Object.keys(COMMANDS);

/**
 * Serves a raw file by a peer until `stop()`.
 * @returns {Promise<NbdServer>}
 */
export function startNbdPeer(name, file, dir) {
  const socket = join(dir, `${name}.sock`);
  return startNbdServer(name, COMMANDS[name](file, socket), socket);
}

/**
 * Runs a server's command, which listens on `socket`, until `stop()`.
 * @returns {Promise<NbdServer>}
 */
export async function startNbdServer(name, [program, ...args], socket) {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const ended = once(child, "exit");
  ended.catch(() => {}); // a program that cannot be started is told by the wait below
  await untilListening(socket, child, () => stderr);
  return {
    name,
    uri: `nbd+unix:///?socket=${socket}`,
    async stop() {
      child.kill("SIGTERM");
      await ended;
      rmSync(socket, { force: true }); // not every peer removes it
    },
  };
}

/**
 * Figures of one workload against an NBD server, after a second of warming up.
 * @param {string} uri
 * @param {Workload} workload
 * @param {{ seconds?: number, dir?: string }} options  `dir`: where fio may leave its files
 * @returns {{ iops: number, bandwidth: number }} bandwidth in bytes a second
 */
export function fioNbd(uri, { rw, blockSize, depth, jobs = 1 }, { seconds = 4, dir } = {}) {
  const args = [
    "--name=bench",
    "--ioengine=nbd",
    `--uri=${uri}`,
    `--rw=${rw}`,
    `--bs=${blockSize}`,
    `--iodepth=${depth}`,
    `--numjobs=${jobs}`,
    "--group_reporting",
  ];
  const output = [
    "--time_based",
    `--runtime=${seconds}`,
    "--ramp_time=1",
    "--randrepeat=1",
    "--norandommap",
    "--output-format=json",
  ];
  const { stdout, stderr, status, error } = spawnSync("fio", [...args, ...output], { encoding: "utf8", cwd: dir });
  if (error) throw error;
  if (status !== 0) throw new Error(`fio ended with ${status}: ${stderr || stdout}`);
  return figuresOf(stdout, rw);
}

/** IOPS and bandwidth from fio's JSON; fio prints notes before and after the document. */
export function figuresOf(stdout, rw) {
  const document = JSON.parse(stdout.slice(stdout.indexOf("{"), stdout.lastIndexOf("}") + 1));
  const job = document.jobs[0];
  if (job.error) throw new Error(`fio's job ended with error ${job.error}`);
  const side = /write/.test(rw) ? job.write : job.read;
  return { iops: side.iops, bandwidth: side.bw_bytes };
}

async function untilListening(socket, child, stderr) {
  let failed;
  child.once("error", (error) => {
    failed = error;
  });
  for (let attempt = 0; attempt < 200; attempt++) {
    if (failed) throw failed;
    if (child.exitCode !== null)
      throw new Error(`${child.spawnargs.join(" ")} ended with ${child.exitCode}: ${stderr()}`);
    if (await accepts(socket)) return;
    await sleep(25);
  }
  child.kill("SIGKILL");
  throw new Error(`${child.spawnargs.join(" ")} does not listen after 5 s: ${stderr()}`);
}

function accepts(path) {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
