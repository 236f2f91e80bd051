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
  const packed: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += unit) packed.push(pack(data.subarray(at, at + unit), packing));
  parentPort!.postMessage({ id, data, packed } satisfies PackAnswer, [data.buffer]);
});
