/** `xvd domain list`. */
import type { Command } from "commander";
import { dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command.action(async (options: { json?: boolean }) => {
    const client = dom0Client({ autostart: false });
    const domains = (await client.status())?.domains ?? [];
    printResult(options.json, domains, () => {
      if (domains.length === 0) return ["Dom0 is not running"];
      const rows = domains.map((domain) => [
        domain.name,
        String(domain.domid),
        domain.state,
        domain.devices.map((device) => device.vdev).join(" "),
      ]);
      return [
        "Name                        ID  State     Devices",
        ...rows.map(([name, id, state, devices]) =>
          `${name!.padEnd(26)} ${id!.padStart(3)}  ${state!.padEnd(8)}  ${devices}`.trimEnd(),
        ),
      ];
    });
  });
}
