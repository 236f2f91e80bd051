/** `xvd list`: attached devices with the state of both ends and their I/O counters. */
import type { Command } from "commander";
import type { AttachedDevice } from "../../dom0/api-types.js";
import type { Dom0Client } from "../../dom0/client.js";
import { DiskError } from "../../errors.js";
import { deviceLines, dom0Client } from "../dom0.js";
import { printResult } from "../print.js";

export default function define(command: Command): void {
  command
    .option("--domain <name|id>", "only this domain's")
    .addHelpText(
      "after",
      "\nWith --verbose also the driver's log of each device: states with times, keys, features, rings, grants, counters and clients.",
    )
    .action(async (options: { domain?: string; json?: boolean; verbose?: boolean }) => {
      const client = dom0Client({ autostart: false });
      const domains = (await client.status())?.domains ?? [];
      const wanted = domains.filter(
        ({ name, domid }) =>
          options.domain === undefined || name === options.domain || String(domid) === options.domain,
      );
      if (options.domain !== undefined && wanted.length === 0)
        throw new DiskError("NOT_FOUND", `Cannot list devices of domain ${options.domain}: there is no such domain`);
      if (options.verbose && wanted.length > 0) return listVerbosely(client, options);
      const devices = wanted.flatMap((domain) => domain.devices);
      printResult(options.json, devices, () =>
        devices.length === 0 ? ["nothing is attached"] : devices.flatMap(linesWithCounters),
      );
    });
}

async function listVerbosely(client: Dom0Client, options: { domain?: string; json?: boolean }): Promise<void> {
  const devices = await client.details(options.domain);
  const { explainLines } = await import("../explain.js");
  printResult(options.json, devices, () =>
    devices.length === 0
      ? ["nothing is attached"]
      : devices.flatMap((device) => [...linesWithCounters(device), ...explainLines(device)]),
  );
}

function linesWithCounters(device: AttachedDevice): string[] {
  const [whole, ...partitions] = deviceLines(device);
  return [whole!, ...ringLines(device.ring), ...counterLines(device.statistics), ...partitions];
}

function ringLines(ring: AttachedDevice["ring"]): string[] {
  if (!ring) return [];
  const grants = ring.persistent ? "persistent grants" : "grants for each request";
  return ring.rings.map(({ ringRefs, eventChannel }, queue) => {
    const pages = `${ringRefs.length} page${ringRefs.length === 1 ? "" : "s"}, ring-ref ${ringRefs.join(" ")}`;
    return `  ring ${queue} of ${pages}, event-channel ${eventChannel}, ${ring.protocol}, ${grants}`;
  });
}

function counterLines(io: AttachedDevice["statistics"]): string[] {
  if (!io) return ["  no ring"];
  const transfers = `reads ${io.rd_req} (${io.rd_sect} sectors), writes ${io.wr_req} (${io.wr_sect} sectors)`;
  return [
    `  ${transfers}, flushes ${io.f_req}, discards ${io.ds_req}, errors ${io.errors}`,
    ...(io.lastError ? [`  last error: ${io.lastError}`] : []),
    ...(io.failure ? [`  the ring was stopped: ${io.failure}`] : []),
  ];
}
