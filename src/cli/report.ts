/** Errors for people (one line) and for scripts (`--json`), and the exit code that goes with them. */
import { printable } from "../bytes/printable.js";
import { DiskError } from "../errors.js";
import { Exit } from "./exit.js";
import { findVerb } from "./registry.js";

interface UsageError {
  code: string;
  exitCode: number;
  message: string;
}

/** Prints the error and returns the exit code: 1 failed (2 where 1 is an answer), 2 wrong usage. */
export function reportError(error: unknown, argv: readonly string[]): number {
  if (error instanceof Exit) return error.code;
  const usage = usageError(error);
  if (usage?.exitCode === 0) return 0; // --help and --version
  const verb = commandName(argv);
  const message = usage
    ? `${usage.message}; see '${helpOf(verb, usage)}'`
    : error instanceof Error
      ? error.message
      : String(error);
  if (argv.includes("--json")) {
    const details = error instanceof DiskError ? error.details : {};
    const code = usage || details.usage === true ? "USAGE" : error instanceof DiskError ? error.code : "INTERNAL";
    process.stderr.write(`${JSON.stringify({ error: { code, message, details } })}\n`);
  } else {
    process.stderr.write(`xvd${verb ? ` ${verb}` : ""}: ${printable(lowerFirst(message))}\n`);
    if (argv.includes("--verbose")) printCauses(error);
  }
  return Math.max(exitCode(error), findVerb(verb)?.failed ?? 1);
}

/** The edge from errors to exit codes: 0 help, 1 failed, 2 wrong usage. */
export function exitCode(error: unknown): number {
  const usage = usageError(error);
  if (usage) return usage.exitCode === 0 ? 0 : 2;
  return error instanceof DiskError && error.details.usage === true ? 2 : 1;
}

function usageError(error: unknown): UsageError | undefined {
  if (!(error instanceof Error) || !("exitCode" in error) || !("code" in error)) return undefined;
  if (typeof error.code !== "string" || !error.code.startsWith("commander.")) return undefined;
  return { code: error.code, exitCode: error.exitCode as number, message: error.message.replace(/^error: |\.$/g, "") };
}

/** The help that lists what would have been right: the verb's own, or where the verbs are when there is no such verb. */
function helpOf(verb: string, usage: UsageError): string {
  const words = verb.split(" ").filter(Boolean);
  if (usage.code === "commander.unknownCommand") words.pop();
  return ["xvd", ...words, "--help"].join(" ");
}

function commandName(argv: readonly string[]): string {
  const words = argv.filter((word) => !word.startsWith("-"));
  return ["part", "dom0", "domain"].includes(words[0] ?? "") ? words.slice(0, 2).join(" ") : (words[0] ?? "");
}

function lowerFirst(message: string): string {
  return message.startsWith("Cannot ") ? `c${message.slice(1)}` : message;
}

function printCauses(error: unknown): void {
  for (let cause = (error as Error).cause; cause; cause = (cause as Error).cause)
    process.stderr.write(`  caused by: ${printable(cause instanceof Error ? cause.message : String(cause))}\n`);
  if (error instanceof Error && !(error instanceof DiskError)) process.stderr.write(`${error.stack}\n`);
}
