/** The header and the L1 table: what opening, checking and creating begin with. */
import type { HostFile } from "../../block/host-file.js";
import { GrowingFile } from "./growing-file.js";
import { decodeHeader } from "./header.js";
import { Qcow2Image } from "./image.js";
import { MAX_CLUSTER_BITS } from "./layout.js";
import { PointerTable } from "./pointer-table.js";

/** The tables alone; what the image names is not opened, and nothing is changed. */
export async function openTables(host: HostFile): Promise<Qcow2Image> {
  const label = `qcow2 ${host.label}`;
  const file = new GrowingFile(host);
  const head = new Uint8Array(Math.min(2 ** MAX_CLUSTER_BITS, host.size));
  await host.read(0, head);
  const header = decodeHeader(head, label, host.size);
  const l1 = await PointerTable.read(file, header.l1TableOffset, header.l1Size);
  return new Qcow2Image(label, file, header, l1, host.writable);
}
