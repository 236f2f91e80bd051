/** The driver's log of one device, for people: states with times, keys, features, rings, grants and counters in the names of blkif.h. */
import type { AttachedDevice, DeviceDetails, StoreKey } from "../dom0/api-types.js";
import { backendPath, frontendPath } from "../xen/blkif/keys.js";
import { journalLines } from "../xen/vbd-journal.js";
import { columns } from "./print.js";

/** What comes under the device's own lines. */
export function explainLines(device: DeviceDetails): string[] {
  const { journal, keys, statistics, grants } = device;
  return [
    ...section("steps and states", journalLines(journal)),
    ...section(`backend's keys, ${backendPath(0, device.domid, device.number)}`, keyLines(keys.backend)),
    ...section(`frontend's keys, ${frontendPath(device.domid, device.number)}`, keyLines(keys.frontend)),
    ...section("negotiated", featureLines(device)),
    ...ringSections(device),
    ...section("grants", [
      `ring-ref ${grants["ring-refs"].join(" ") || "none"}`,
      `mapped now ${grants.mapped}, kept (persistent) ${grants.persistent}`,
    ]),
    ...section("counters", statistics ? counters(statistics) : ["none: no ring is connected"]),
    ...section("clients", clientLines(device)),
  ];
}

function section(title: string, lines: readonly string[]): string[] {
  return [`  ${title}`, ...lines.map((line) => `    ${line}`)];
}

function keyLines(keys: readonly StoreKey[]): string[] {
  return columns(keys.map(({ key, value, by }) => [by, key, value]));
}

function featureLines({ features }: DeviceDetails): string[] {
  if (!features) return ["nothing yet: the frontend has offered no ring"];
  return columns(Object.entries(features).flatMap(([name, value]) => (value === null ? [] : [[name, String(value)]])));
}

function ringSections(device: DeviceDetails): string[] {
  return (device.statistics?.rings ?? []).flatMap((back, i) => {
    const front = device["frontend-rings"][i];
    const ports = device["event-channels"][i];
    const rows = [
      ["", "req_prod", "req_cons", "req_event", "rsp_prod", "rsp_cons", "rsp_event", "in flight", "sent", "suppressed"],
      [
        "backend",
        back.req_prod,
        back.req_cons,
        back.req_event,
        back.rsp_prod,
        "",
        back.rsp_event,
        back.in_flight,
        back.notified,
        back.suppressed,
      ],
      ...(front
        ? [
            [
              "frontend",
              front.req_prod,
              "",
              front.req_event,
              front.rsp_prod,
              front.rsp_cons,
              front.rsp_event,
              front.in_flight,
              front.notified,
              front.suppressed,
            ],
          ]
        : []),
    ];
    const waiting = front && front.waiting > 0 ? `, ${front.waiting} requests wait for a slot` : "";
    return section(`ring ${i}`, [
      `${back.size} slots, event-channel ${ports?.frontend ?? "unknown"}, Dom0's port ${back.port}${waiting}`,
      ...columns(
        rows.map((row) => row.map(String)),
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
      ),
    ]);
  });
}

function counters(io: NonNullable<AttachedDevice["statistics"]>): string[] {
  return [
    `rd_req ${io.rd_req}, wr_req ${io.wr_req}, f_req ${io.f_req}, ds_req ${io.ds_req}, oo_req ${io.oo_req}`,
    `rd_sect ${io.rd_sect}, wr_sect ${io.wr_sect}, errors ${io.errors}`,
  ];
}

function clientLines({ connections, clients }: AttachedDevice): string[] {
  if (connections === 0) return ["none"];
  return columns(
    clients.map(({ device, pid, command }) => [
      device,
      pid === null ? "a process that is not known" : `${command} (pid ${pid})`,
    ]),
  );
}
