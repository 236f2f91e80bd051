/** qemu-img judges qcow2 with every option. */
import { describe } from "vitest";
import { havePeer } from "../support/peers.js";
import { describeOptions } from "./qcow2-options.js";

describe.skipIf(!havePeer("qemu-img", "qemu-io"))("qcow2 and qemu-img, all options", () => {
  describeOptions([
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=2M",
    "compat=0.10",
    "lazy_refcounts=on",
    "refcount_bits=1",
    "refcount_bits=2",
    "refcount_bits=4",
    "refcount_bits=8",
    "refcount_bits=32",
    "refcount_bits=64",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "extended_l2=on,cluster_size=2M",
    "compression_type=zstd",
  ]);
});
