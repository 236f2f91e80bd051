/** Refcounts of 1 to 64 bits in the bytes of a refcount block. Below a byte, bit 0 is the least significant one (Host cluster management). */

export interface RefcountWidth {
  /** The largest count; what is larger in 64 bits is read as this. */
  readonly most: number;
  get(view: DataView, index: number): number;
  set(view: DataView, index: number, count: number): void;
}

/** `order`: counts have 1 << order bits, 0 to 6. */
export function refcountWidth(order: number): RefcountWidth {
  return WIDTHS[order]!;
}

function belowByte(width: number): RefcountWidth {
  const most = 2 ** width - 1;
  const perByte = 8 / width;
  return {
    most,
    get: (view, index) => (view.getUint8(Math.floor(index / perByte)) >>> ((index % perByte) * width)) & most,
    set(view, index, count) {
      const at = Math.floor(index / perByte);
      const shift = (index % perByte) * width;
      view.setUint8(at, (view.getUint8(at) & ~(most << shift)) | (count << shift));
    },
  };
}

const WIDTHS: readonly RefcountWidth[] = [
  belowByte(1),
  belowByte(2),
  belowByte(4),
  { most: 0xff, get: (view, i) => view.getUint8(i), set: (view, i, count) => view.setUint8(i, count) },
  { most: 0xffff, get: (view, i) => view.getUint16(i * 2), set: (view, i, count) => view.setUint16(i * 2, count) },
  { most: 0xffff_ffff, get: (view, i) => view.getUint32(i * 4), set: (view, i, count) => view.setUint32(i * 4, count) },
  {
    most: Number.MAX_SAFE_INTEGER,
    get: (view, i) => Math.min(view.getUint32(i * 8) * 2 ** 32 + view.getUint32(i * 8 + 4), Number.MAX_SAFE_INTEGER),
    set(view, i, count) {
      view.setUint32(i * 8, Math.floor(count / 2 ** 32));
      view.setUint32(i * 8 + 4, count % 2 ** 32);
    },
  },
];
