/** `xvd block-list`: the columns of `xl block-list`. */
import type { Command } from "commander";
import type { BlockInfo } from "../../xen/block-info.js";
import { dom0Client } from "../dom0.js";
import { printResult } from "../print.js";

export default function define(command: Command): void {
  command
    .argument("<domain...>", "names or ids")
    .addHelpText(
      "after",
      "\nA column is -1 when its key is missing, as the ring of several pages or queues. BE and handle are domain ids.",
    )
    .action(async (domains: string[], options: { json?: boolean }) => {
      const client = dom0Client({ autostart: false });
      const answers = await Promise.allSettled(domains.map((domain) => client.blockDevices(domain)));
      const devices = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
      const failed = answers.find((answer) => answer.status === "rejected");
      // Like xl, one wrong name does not keep the others from being listed.
      if (devices.length > 0) printResult(options.json, devices.flat(), () => [HEADER, ...devices.flat().map(row)]);
      if (failed) throw failed.reason;
    });
}

const WIDTHS = [5, 3, 6, 5, 6, 8, 0];
const HEADER = cells(["Vdev", "BE", "handle", "state", "evt-ch", "ring-ref", "BE-path"]);

function row(device: BlockInfo): string {
  const { devid, handle, state } = device;
  const numbers = [devid, device["backend-id"], handle, state, device["event-channel"], device["ring-ref"]];
  return cells([...numbers.map(String), device["backend-path"]]);
}

function cells(values: readonly string[]): string {
  return values.map((value, i) => value.padEnd(WIDTHS[i]!)).join(" ");
}
