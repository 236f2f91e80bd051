/** `xvd lvextend`: a volume made larger. */
import type { Command } from "commander";
import { defineResize } from "./resize.js";

export default (command: Command): void => defineResize(command, "extend");
