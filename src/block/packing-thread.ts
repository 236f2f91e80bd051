/** A thread that packs units: gets several at once, sends back their packed bytes. `packing-pool.ts` starts it. */
import { parentPort, workerData } from "node:worker_threads";
import { loadCodec, type Packing } from "../bytes/packing.js";

export interface PackRequest {
  readonly id: number;
  /** Units one behind the other, the last one may be short. Comes back with the answer. */
  readonly data: Uint8Array<ArrayBuffer>;
}

export interface PackAnswer {
  readonly id: number;
  readonly data: Uint8Array<ArrayBuffer>;
  /** Of each unit; all in one buffer that has come over with them. */
  readonly packed: readonly Uint8Array[];
}

export interface PackingThreadData {
  readonly packing: Packing;
  readonly unit: number;
}

const { packing, unit } = workerData as PackingThreadData;
const codec = loadCodec(packing.method);

parentPort!.on("message", async ({ id, data }: PackRequest) => {
  const { pack } = await codec;
  const units: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += unit) units.push(pack(data.subarray(at, at + unit), packing));
  const all = new Uint8Array(units.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  const packed = units.map((bytes) => {
    all.set(bytes, end);
    return all.subarray(end, (end += bytes.length));
  });
  parentPort!.postMessage({ id, data, packed } satisfies PackAnswer, [data.buffer, all.buffer]);
});
