/** What each request does to the device, once it was found allowed. */
import type { BlockDevice } from "../block/device.js";
import { RunList, type StatusRun } from "./allocation.js";
import { CMD, CMD_FLAG, STATE } from "./codes.js";
import type { Request } from "./request.js";

/** Descriptors in one reply; the client asks again for what is left. */
const MAX_DESCRIPTORS = 4096;
const PIECE = 1 << 20;

let zeros: Uint8Array | undefined;

/** Commands whose reply is only success or an error. Resolves when the reply may say so, FUA included. */
export function execute(device: BlockDevice, request: Request, data: Uint8Array | undefined): Promise<void> {
  const done = start(device, request, data);
  return (request.flags & CMD_FLAG.FUA) !== 0 && request.type !== CMD.FLUSH && request.type !== CMD.CACHE
    ? done.then(() => device.flush())
    : done;
}

function start(
  device: BlockDevice,
  { type, flags, offset, length }: Request,
  data: Uint8Array | undefined,
): Promise<void> {
  switch (type) {
    case CMD.WRITE:
      return device.write(offset, data!);
    case CMD.FLUSH:
      return device.flush();
    case CMD.TRIM:
      return device.discard(offset, length);
    case CMD.WRITE_ZEROES:
      return (flags & CMD_FLAG.NO_HOLE) !== 0 ? writeZeros(device, offset, length) : device.zero(offset, length);
    case CMD.CACHE:
      return readAhead(device, offset, length);
    default:
      throw new TypeError(`${type} is no command with an empty reply`);
  }
}

/** Zeros that take their space, as NO_HOLE asks. */
async function writeZeros(device: BlockDevice, offset: number, length: number): Promise<void> {
  zeros ??= new Uint8Array(PIECE);
  for (let done = 0; done < length; done += PIECE)
    await device.write(offset + done, length - done < PIECE ? zeros.subarray(0, length - done) : zeros);
}

/** Brings the range into the caches below the device. */
async function readAhead(device: BlockDevice, offset: number, length: number): Promise<void> {
  const scratch = new Uint8Array(Math.min(PIECE, length));
  for (let done = 0; done < length; done += PIECE)
    await device.read(offset + done, length - done < PIECE ? scratch.subarray(0, length - done) : scratch);
}

/** The device's extents in base:allocation's terms: at most one run when `one`, never empty. */
export async function allocation(
  device: BlockDevice,
  offset: number,
  length: number,
  one: boolean,
): Promise<readonly StatusRun[]> {
  const list = new RunList(offset, device.blockSize, one ? 1 : MAX_DESCRIPTORS);
  for await (const extent of device.extents(offset, length)) {
    const status = (extent.zero ? STATE.ZERO : 0) | (extent.zero && !extent.data ? STATE.HOLE : 0);
    if (!list.add(extent.length, status)) break;
  }
  if (list.runs.length === 0) throw new Error(`${device.label} has no extents at ${offset}`);
  return list.runs;
}
