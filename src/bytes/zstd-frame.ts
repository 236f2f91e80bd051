/** Where a zstd frame ends and how much it holds (RFC 8878, 3.1.1), read without decoding it: decoders want exactly the frame. */

const MAGIC = 0xfd2fb528;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

export interface ZstdFrame {
  /** Bytes of the frame itself. */
  readonly length: number;
  /** Bytes that it unpacks to; null where the frame does not say it. */
  readonly contentSize: number | null;
}

/** The frame at the begin of `bytes`; null when there is none, or not all of it. */
export function zstdFrame(bytes: Uint8Array): ZstdFrame | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 6 || view.getUint32(0, true) !== MAGIC) return null;
  const descriptor = bytes[4]!;
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryIdSize = [0, 1, 2, 4][descriptor & 3]!;
  const sizeOfSize = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  const sizeAt = 5 + (singleSegment ? 0 : 1) + dictionaryIdSize;
  let at = sizeAt + sizeOfSize;
  for (let last = false; !last; ) {
    if (at + 3 > bytes.length) return null;
    const header = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) return null;
    last = (header & 1) !== 0;
    at += 3 + (type === RLE_BLOCK ? 1 : header >> 3);
  }
  const length = at + (descriptor & 4 ? 4 : 0); // a checksum
  return length <= bytes.length ? { length, contentSize: contentSize(view, sizeAt, sizeOfSize) } : null;
}

function contentSize(view: DataView, at: number, size: number): number | null {
  switch (size) {
    case 1:
      return view.getUint8(at);
    case 2:
      return view.getUint16(at, true) + 256;
    case 4:
      return view.getUint32(at, true);
    case 8:
      return Number(view.getBigUint64(at, true));
    default:
      return null;
  }
}
