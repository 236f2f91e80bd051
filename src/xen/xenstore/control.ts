/** The commands of xenstore-control that make sense for this daemon. */
import type { Request } from "./requests.js";
import { joinStrings, PAYLOAD_MAX } from "./wire.js";

interface Command {
  readonly usage: string;
  /** The reply's text; none means `OK`. */
  run(request: Request, args: readonly string[]): string | undefined;
}

const COMMANDS: Record<string, Command> = {
  check: { usage: "check", run: ({ store }) => store.tree.inconsistencies().join("\n") || "OK" },
  help: {
    usage: "help",
    run: () =>
      Object.values(COMMANDS)
        .map(({ usage }) => `${usage}\n`)
        .join(""),
  },
  memreport: { usage: "memreport", run: memoryReport },
  print: {
    usage: "print <string>",
    run({ domains }, args) {
      domains.notice(args.join(" "));
      return undefined;
    },
  },
};

/** The reply's payload; undefined for `OK`. `command` and `args` as the client sent them; null: there is no such command. */
export function control(request: Request, [name, ...args]: readonly string[]): Uint8Array | undefined | null {
  if (name === undefined || !Object.hasOwn(COMMANDS, name)) return null;
  const text = COMMANDS[name]!.run(request, args);
  return text === undefined ? undefined : joinStrings([text.slice(0, PAYLOAD_MAX - 1)]);
}

/** A line for each domain that the store knows: what it uses of its quotas. */
function memoryReport({ domains }: Request): string {
  const rows = domains.usage().map((usage) => Object.values(usage).join("\t"));
  return [["domid", "nodes", "watches", "transactions", "bytes"].join("\t"), ...rows].map((row) => `${row}\n`).join("");
}
