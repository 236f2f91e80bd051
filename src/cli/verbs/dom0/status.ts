/** `xvd dom0 status`: whether a daemon runs, and what it holds. Exit code 0 either way. */
import type { Command } from "commander";
import { deviceLines, dom0Client } from "../../dom0.js";
import { printResult } from "../../print.js";

export default function define(command: Command): void {
  command.action(async (options: { json?: boolean }) => {
    const status = await dom0Client({ autostart: false }).status();
    const document = status ?? { running: false, pid: null, started: null, xenstored: null, domains: [], found: null };
    const { describeFound } = await import("../../../dom0/found.js");
    printResult(options.json, document, () => {
      if (!status) return ["Dom0 is not running"];
      const devices = status.domains.flatMap((domain) => domain.devices.flatMap(deviceLines));
      const found = status.found ? [`at its start, ${describeFound(status.found)}`] : [];
      const count = status.domains.length;
      return [
        `Dom0 runs with pid ${status.pid} since ${status.started}, ${count} domain${count === 1 ? "" : "s"}`,
        ...found,
        ...devices,
      ];
    });
  });
}
