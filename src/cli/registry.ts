/** Every verb of the command line: one line here, one file in `verbs/`. A verb's file is loaded only when it is asked for. */
import type { Command } from "commander";

export interface VerbEntry {
  readonly summary: string;
  /** Exit code of a failure, where 1 is an answer. Default 1. */
  readonly failed?: number;
  /** Adds arguments, options, help and action to the verb's own command. */
  load(): Promise<{ default: (command: Command) => void }>;
}

/** Sections of `xvd --help`; a key with a blank is a verb within a group (`part list`). */
export const SECTIONS: Readonly<Record<string, Readonly<Record<string, VerbEntry>>>> = {
  Images: {
    create: { summary: "make an empty disk image", load: () => import("./verbs/create.js") },
    info: { summary: "tell size, format and what lies on a disk", load: () => import("./verbs/info.js") },
    map: { summary: "draw which parts of a disk are stored", load: () => import("./verbs/map.js") },
    check: { summary: "check and mend an image's own tables", load: () => import("./verbs/check.js") },
    resize: { summary: "grow or shrink an image", load: () => import("./verbs/resize.js") },
    convert: { summary: "copy a disk into another file or format", load: () => import("./verbs/convert.js") },
    compare: { summary: "compare the contents of two disks", failed: 2, load: () => import("./verbs/compare.js") },
    clone: { summary: "copy an image, by reflink where possible", load: () => import("./verbs/clone.js") },
    "snapshot create": { summary: "make a snapshot within an image", load: () => import("./verbs/snapshot/create.js") },
    "snapshot list": { summary: "list the snapshots of an image", load: () => import("./verbs/snapshot/list.js") },
    "snapshot apply": { summary: "go back to a snapshot", load: () => import("./verbs/snapshot/apply.js") },
    "snapshot delete": { summary: "forget a snapshot", load: () => import("./verbs/snapshot/delete.js") },
    commit: { summary: "write an overlay into the image beneath it", load: () => import("./verbs/commit.js") },
    rebase: { summary: "put an overlay on another image", load: () => import("./verbs/rebase.js") },
    trim: { summary: "give back the space of stored zeros", load: () => import("./verbs/trim.js") },
    checksum: { summary: "digest of the guest-visible bytes", load: () => import("./verbs/checksum.js") },
    io: { summary: "read and write patterns, for tests", load: () => import("./verbs/io.js") },
  },
  Partitions: {
    "part init": { summary: "write an empty partition table", load: () => import("./verbs/part/init.js") },
    "part list": { summary: "list partitions and free space", load: () => import("./verbs/part/list.js") },
    "part add": { summary: "add a partition", load: () => import("./verbs/part/add.js") },
    "part rm": { summary: "remove a partition", load: () => import("./verbs/part/rm.js") },
    "part resize": { summary: "move a partition's end", load: () => import("./verbs/part/resize.js") },
    "part move": { summary: "move a partition with its contents", load: () => import("./verbs/part/move.js") },
    "part set": {
      summary: "change name, type, UUID and flags of a partition",
      load: () => import("./verbs/part/set.js"),
    },
    "part verify": { summary: "check a partition table", load: () => import("./verbs/part/verify.js") },
    "part repair": {
      summary: "mend a partition table from its surviving copy",
      load: () => import("./verbs/part/repair.js"),
    },
    "part dump": { summary: "print the table as an sfdisk script", load: () => import("./verbs/part/dump.js") },
    "part apply": {
      summary: "make the table what a script or a short layout says",
      load: () => import("./verbs/part/apply.js"),
    },
    "part convert": {
      summary: "GPT to MBR and back, or another sector size",
      load: () => import("./verbs/part/convert.js"),
    },
    mkfs: { summary: "make a file system on a partition", load: () => import("./verbs/mkfs.js") },
  },
  Volumes: {
    pvcreate: { summary: "make disks physical volumes", load: () => import("./verbs/lvm/pvcreate.js") },
    pvs: { summary: "list physical volumes", load: () => import("./verbs/lvm/pvs.js") },
    pvchange: {
      summary: "change tags, identity and allocation of physical volumes",
      load: () => import("./verbs/lvm/pvchange.js"),
    },
    pvresize: {
      summary: "let physical volumes follow the size of their disks",
      load: () => import("./verbs/lvm/pvresize.js"),
    },
    pvremove: { summary: "make physical volumes plain disks again", load: () => import("./verbs/lvm/pvremove.js") },
    pvck: {
      summary: "print labels and metadata of a disk as they lie on it",
      load: () => import("./verbs/lvm/pvck.js"),
    },
    pvmove: { summary: "move extents to other physical volumes", load: () => import("./verbs/lvm/pvmove.js") },
    vgcreate: { summary: "make a volume group", load: () => import("./verbs/lvm/vgcreate.js") },
    vgs: { summary: "list volume groups", load: () => import("./verbs/lvm/vgs.js") },
    vgextend: { summary: "add physical volumes to a group", load: () => import("./verbs/lvm/vgextend.js") },
    vgreduce: { summary: "take physical volumes out of a group", load: () => import("./verbs/lvm/vgreduce.js") },
    vgrename: { summary: "rename a group", load: () => import("./verbs/lvm/vgrename.js") },
    vgchange: {
      summary: "change limits, policies, tags and identity of groups",
      load: () => import("./verbs/lvm/vgchange.js"),
    },
    vgsplit: { summary: "make some disks of a group another group", load: () => import("./verbs/lvm/vgsplit.js") },
    vgmerge: { summary: "make two groups one", load: () => import("./verbs/lvm/vgmerge.js") },
    vgexport: { summary: "put groups away for another host", load: () => import("./verbs/lvm/vgexport.js") },
    vgimport: { summary: "take exported groups over", load: () => import("./verbs/lvm/vgimport.js") },
    vgimportclone: {
      summary: "make copies of a group's disks a group of their own",
      load: () => import("./verbs/lvm/vgimportclone.js"),
    },
    vgremove: { summary: "remove a group", load: () => import("./verbs/lvm/vgremove.js") },
    vgck: { summary: "check groups and their metadata areas", load: () => import("./verbs/lvm/vgck.js") },
    vgcfgbackup: { summary: "keep the metadata of groups in files", load: () => import("./verbs/lvm/vgcfgbackup.js") },
    vgcfgrestore: {
      summary: "restore the metadata of a group, or undo its last change",
      load: () => import("./verbs/lvm/vgcfgrestore.js"),
    },
    lvcreate: { summary: "make a logical volume", load: () => import("./verbs/lvm/lvcreate.js") },
    lvs: { summary: "list logical volumes", load: () => import("./verbs/lvm/lvs.js") },
    lvextend: { summary: "make a volume larger", load: () => import("./verbs/lvm/lvextend.js") },
    lvreduce: { summary: "make a volume smaller", load: () => import("./verbs/lvm/lvreduce.js") },
    lvresize: { summary: "make a volume larger or smaller", load: () => import("./verbs/lvm/lvresize.js") },
    lvrename: { summary: "rename a volume", load: () => import("./verbs/lvm/lvrename.js") },
    lvchange: {
      summary: "change permissions, tags and policies of volumes",
      load: () => import("./verbs/lvm/lvchange.js"),
    },
    lvconvert: { summary: "make a volume one of another kind", load: () => import("./verbs/lvm/lvconvert.js") },
    lvremove: { summary: "remove volumes", load: () => import("./verbs/lvm/lvremove.js") },
    lvmdevices: {
      summary: "list, add and forget the disks of groups",
      load: () => import("./verbs/lvm/lvmdevices.js"),
    },
  },
  "Domains and devices": {
    "dom0 start": { summary: "start the simulated Dom0", load: () => import("./verbs/dom0/start.js") },
    "dom0 stop": { summary: "detach everything and stop it", load: () => import("./verbs/dom0/stop.js") },
    "dom0 status": { summary: "tell whether it runs, and what it holds", load: () => import("./verbs/dom0/status.js") },
    "domain create": { summary: "create a domain", load: () => import("./verbs/domain/create.js") },
    "domain list": { summary: "list domains and their devices", load: () => import("./verbs/domain/list.js") },
    "domain pause": { summary: "stop a domain's vcpu for a while", load: () => import("./verbs/domain/pause.js") },
    "domain unpause": { summary: "let it run again", load: () => import("./verbs/domain/unpause.js") },
    "domain shutdown": { summary: "ask a domain to end in order", load: () => import("./verbs/domain/shutdown.js") },
    "domain save": { summary: "write a domain's state to a file", load: () => import("./verbs/domain/save.js") },
    "domain restore": { summary: "let a saved domain go on", load: () => import("./verbs/domain/restore.js") },
    "domain migrate": {
      summary: "move a running domain to another Dom0",
      load: () => import("./verbs/domain/migrate.js"),
    },
    "domain destroy": { summary: "destroy a domain", load: () => import("./verbs/domain/destroy.js") },
    attach: { summary: "attach a disk as /dev/xvdX", load: () => import("./verbs/attach.js") },
    detach: { summary: "detach a device", load: () => import("./verbs/detach.js") },
    list: { summary: "list attached devices", load: () => import("./verbs/list.js") },
    top: { summary: "show the I/O of attached devices live", load: () => import("./verbs/top.js") },
    "block-attach": {
      summary: "attach a disk by an xl disk specification",
      load: () => import("./verbs/block-attach.js"),
    },
    "block-detach": { summary: "detach a domain's device, as xl does", load: () => import("./verbs/block-detach.js") },
    "block-list": { summary: "list a domain's devices, as xl does", load: () => import("./verbs/block-list.js") },
  },
  Network: {
    serve: { summary: "serve disks to NBD clients", load: () => import("./verbs/serve.js") },
  },
  "First contact": {
    tour: {
      summary: "show all of it on a real disk image, in a temporary folder",
      load: () => import("./verbs/tour.js"),
    },
  },
};

export const GROUPS: Readonly<Record<string, string>> = {
  snapshot: "snapshots within an image, of formats that have them",
  part: "partition tables: GPT and MBR, one to fifteen partitions",
  dom0: "the simulated Dom0, which holds domains and devices",
  domain: "domains, the guests of the simulated host",
};

export function findVerb(name: string): VerbEntry | undefined {
  for (const section of Object.values(SECTIONS)) if (Object.hasOwn(section, name)) return section[name];
  return undefined;
}
