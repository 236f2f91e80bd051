/** `xvd tour`: runs real commands on a real disk in a temporary folder, and shows each with its result. */
import { spawn } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { styleText } from "node:util";
import type { Command } from "commander";
import { formatSize } from "../../bytes/size.js";
import { DiskError } from "../../errors.js";
import { findProgram } from "../../os/programs.js";
import { removeTree, scratchFolder, treeSize } from "../../os/trees.js";
import { interruptible } from "../interrupt.js";
import { type TourStep, tourSteps } from "../tour-steps.js";

const XVD = fileURLToPath(new URL("../../../bin/xvd.js", import.meta.url));
/** Folders that most machines have; the last one always exists. */
const TREES = ["/usr/share/zoneinfo", "/usr/share/perl5", "/usr/share/man/man1", "/etc", dirname(dirname(XVD))];
const MAX_TREE_FILES = 20_000;
const MAX_TREE_BYTES = 256 << 20;

export default function define(command: Command): void {
  command.option("--keep", "leave the disks in the temporary folder").action(async (options: { keep?: boolean }) => {
    const folder = scratchFolder("xvd-tour-");
    try {
      await interruptible((signal) => tour(folder, signal), "the tour's folder is removed");
    } finally {
      await run(folder, ["dom0", "stop"]).catch(() => {});
      if (options.keep) say(`\nThe disks are in ${folder}`);
      else removeTree(folder);
    }
  });
}

async function tour(folder: string, signal: AbortSignal): Promise<void> {
  const { path: tree, size } = chooseTree();
  say(style("bold", "xvdkit: one disk image, from its creation to its rescue"));
  say(`The real input: ${tree}, ${size}.\n`);
  const begin = performance.now();
  for (const step of tourSteps(tree)) {
    signal.throwIfAborted();
    await show(folder, step, signal);
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  say(`\n${style("bold", "Done")} in ${seconds} s. Every line above was a real command; 'xvd --help' lists them all.`);
}

async function show(folder: string, step: TourStep, signal: AbortSignal): Promise<void> {
  if (step.why) say(`\n${style("dim", `# ${step.why}`)}`);
  say(`${style("green", "$")} ${style("bold", `xvd ${step.args.map(quoted).join(" ")}`)}`);
  if (step.needs && !findProgram(step.needs)) return say(`(left out: ${step.needs} is not installed here)`);
  const { code, output } = await run(folder, step.args, signal);
  const lines = output.trimEnd().split("\n");
  const shown = lines.slice(0, step.show ?? lines.length);
  if (output.trim() !== "") say(shown.join("\n"));
  if (shown.length < lines.length) say(`... and ${lines.length - shown.length} lines more`);
  if (code !== (step.code ?? 0))
    throw new DiskError(
      "IO",
      `Cannot go on with the tour: xvd ${step.args.join(" ")} ended with ${code}, expected ${step.code ?? 0}`,
    );
}

/** Runs a command as a user would, in the tour's folder and with a Dom0 of its own. */
async function run(
  folder: string,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<{ code: number; output: string }> {
  const env = { ...process.env, XVD_HOME: `${folder}/home`, XVD_RUN: `${folder}/run`, NO_COLOR: "1" };
  const child = spawn(process.execPath, [XVD, ...args], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  const stop = () => child.kill("SIGTERM");
  signal?.addEventListener("abort", stop);
  const code = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (ended) => resolve(ended ?? 1));
  });
  signal?.removeEventListener("abort", stop);
  return { code, output: Buffer.concat(chunks).toString("utf8") };
}

function chooseTree(): { path: string; size: string } {
  for (const path of TREES) {
    const size = treeSize(path, MAX_TREE_FILES);
    if (size && size.bytes > 0 && size.bytes <= MAX_TREE_BYTES)
      return { path, size: `${size.files} files, ${formatSize(size.bytes)}` };
  }
  throw new DiskError("NOT_FOUND", `Cannot find a folder for the tour: none of ${TREES.join(", ")} can be read`);
}

function quoted(word: string): string {
  return /^[\w./:#=,+-]+$/.test(word) ? word : `'${word}'`;
}

function style(format: "bold" | "dim" | "green", text: string): string {
  return process.stdout.isTTY && !process.env.NO_COLOR ? styleText(format, text) : text;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
