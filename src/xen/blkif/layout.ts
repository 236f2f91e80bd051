/**
 * blkif.h (Xen 4.17) as tables: requests and responses of the x86_64 and x86_32 ABIs, side by side.
 * Sectors are 512 bytes everywhere on the wire, whatever `sector-size` says.
 * The hot path reads the words at `ABIS[...]` instead of decoding a table per request; the offsets come from the tables.
 */
import { bytes, reserved, s16, u8, u16, u32, u64 } from "../../bytes/field-types.js";
import { at, layout } from "../../bytes/layout.js";

export const BLKIF_OP = { READ: 0, WRITE: 1, WRITE_BARRIER: 2, FLUSH_DISKCACHE: 3, DISCARD: 5, INDIRECT: 6 } as const;
export const BLKIF_RSP = { OKAY: 0, ERROR: -1, EOPNOTSUPP: -2 } as const;
export const BLKIF_MAX_SEGMENTS_PER_REQUEST = 11;
export const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8;
/** Segments that one indirect page describes. */
export const SEGMENTS_PER_INDIRECT_PAGE = 512;
export const BLKIF_DISCARD_SECURE = 1;
/** Bits of the backend's `info` key. */
export const VDISK = { CDROM: 1, REMOVABLE: 2, READONLY: 4 } as const;
export const SECTOR = 512;
export const SECTORS_PER_PAGE = 8;

export const BLKIF_SEGMENT = layout(
  "blkif_request_segment",
  { endian: "le", size: 8, spec: "blkif.h" },
  {
    gref: at(0, u32, "grant reference of the page"),
    firstSect: at(4, u8, "first sector of the page, inclusive"),
    lastSect: at(5, u8, "last sector of the page, inclusive"),
    pad: at(6, reserved(2), ""),
  },
);

export const BLKIF_REQUEST_64 = layout(
  "blkif_request (x86_64)",
  { endian: "le", size: 112, spec: "blkif.h" },
  {
    operation: at(0, u8, "BLKIF_OP_*"),
    nrSegments: at(1, u8, "segments used"),
    handle: at(2, u16, "truncated device number; to be ignored"),
    pad: at(4, reserved(4), ""),
    id: at(8, u64, "private to the frontend, echoed"),
    sectorNumber: at(16, u64, "start sector"),
    seg: at(24, bytes(88), "11 blkif_request_segment"),
  },
);

export const BLKIF_REQUEST_32 = layout(
  "blkif_request (x86_32)",
  { endian: "le", size: 108, spec: "blkif.h" },
  {
    operation: at(0, u8, "BLKIF_OP_*"),
    nrSegments: at(1, u8, "segments used"),
    handle: at(2, u16, "truncated device number; to be ignored"),
    id: at(4, u64, "private to the frontend, echoed"),
    sectorNumber: at(12, u64, "start sector"),
    seg: at(20, bytes(88), "11 blkif_request_segment"),
  },
);

export const BLKIF_DISCARD_64 = layout(
  "blkif_request_discard (x86_64)",
  { endian: "le", size: 32, spec: "blkif.h" },
  {
    operation: at(0, u8, "BLKIF_OP_DISCARD"),
    flag: at(1, u8, "bit 0: secure"),
    handle: at(2, u16, "as in blkif_request"),
    pad: at(4, reserved(4), ""),
    id: at(8, u64, "private to the frontend, echoed"),
    sectorNumber: at(16, u64, "start sector"),
    nrSectors: at(24, u64, "sectors to discard"),
  },
);

export const BLKIF_DISCARD_32 = layout(
  "blkif_request_discard (x86_32)",
  { endian: "le", size: 28, spec: "blkif.h" },
  {
    operation: at(0, u8, "BLKIF_OP_DISCARD"),
    flag: at(1, u8, "bit 0: secure"),
    handle: at(2, u16, "as in blkif_request"),
    id: at(4, u64, "private to the frontend, echoed"),
    sectorNumber: at(12, u64, "start sector"),
    nrSectors: at(20, u64, "sectors to discard"),
  },
);

export const BLKIF_INDIRECT_64 = layout(
  "blkif_request_indirect (x86_64)",
  { endian: "le", size: 64, spec: "blkif.h" },
  {
    operation: at(0, u8, "BLKIF_OP_INDIRECT"),
    indirectOp: at(1, u8, "BLKIF_OP_READ or BLKIF_OP_WRITE"),
    nrSegments: at(2, u16, "segments used"),
    pad: at(4, reserved(4), ""),
    id: at(8, u64, "private to the frontend, echoed"),
    sectorNumber: at(16, u64, "start sector"),
    handle: at(24, u16, "as in blkif_request"),
    pad1: at(26, reserved(2), ""),
    indirectGrefs: at(28, bytes(32), "8 grant references of pages of blkif_request_segment"),
    pad2: at(60, reserved(4), ""),
  },
);

export const BLKIF_INDIRECT_32 = layout(
  "blkif_request_indirect (x86_32)",
  { endian: "le", size: 64, spec: "blkif.h" },
  {
    operation: at(0, u8, "BLKIF_OP_INDIRECT"),
    indirectOp: at(1, u8, "BLKIF_OP_READ or BLKIF_OP_WRITE"),
    nrSegments: at(2, u16, "segments used"),
    id: at(4, u64, "private to the frontend, echoed"),
    sectorNumber: at(12, u64, "start sector"),
    handle: at(20, u16, "as in blkif_request"),
    pad1: at(22, reserved(2), ""),
    indirectGrefs: at(24, bytes(32), "8 grant references of pages of blkif_request_segment"),
    pad2: at(56, reserved(8), ""),
  },
);

export const BLKIF_RESPONSE = layout(
  "blkif_response",
  { endian: "le", size: 12, spec: "blkif.h" },
  {
    id: at(0, u64, "copied from the request"),
    operation: at(8, u8, "copied from the request"),
    pad: at(9, reserved(1), "zero, never old memory (XSA-216)"),
    status: at(10, s16, "BLKIF_RSP_*"),
  },
);

/** Positions in 32-bit words for the hot path. */
export interface BlkifAbi {
  readonly protocol: string;
  /** Bytes of a slot. */
  readonly stride: number;
  readonly idWord: number;
  readonly sectorWord: number;
  readonly segmentWord: number;
  readonly nrSectorsWord: number;
  readonly indirectGrefsWord: number;
}

function abi(
  protocol: string,
  request: typeof BLKIF_REQUEST_64 | typeof BLKIF_REQUEST_32,
  discard: typeof BLKIF_DISCARD_64 | typeof BLKIF_DISCARD_32,
  indirect: typeof BLKIF_INDIRECT_64 | typeof BLKIF_INDIRECT_32,
): BlkifAbi {
  const { id, sectorNumber, seg } = request.fields;
  return {
    protocol,
    stride: request.size,
    idWord: id.offset / 4,
    sectorWord: sectorNumber.offset / 4,
    segmentWord: seg.offset / 4,
    nrSectorsWord: discard.fields.nrSectors.offset / 4,
    indirectGrefsWord: indirect.fields.indirectGrefs.offset / 4,
  };
}

/** By the frontend's `protocol` key (protocols.h). */
export const ABIS: Readonly<Record<string, BlkifAbi>> = {
  "x86_64-abi": abi("x86_64-abi", BLKIF_REQUEST_64, BLKIF_DISCARD_64, BLKIF_INDIRECT_64),
  "x86_32-abi": abi("x86_32-abi", BLKIF_REQUEST_32, BLKIF_DISCARD_32, BLKIF_INDIRECT_32),
};

/** Linux's rule for a frontend that names no protocol (BLKIF_PROTOCOL_DEFAULT on x86): 32-bit, even for 64-bit guests. */
export const DEFAULT_PROTOCOL = "x86_32-abi";
export const NATIVE_PROTOCOL = "x86_64-abi";
