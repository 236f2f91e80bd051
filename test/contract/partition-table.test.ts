import { PARTITION_TABLES } from "#src/partitions/registry.js";
import { describePartitionTable } from "./partition-table.js";

for (const format of PARTITION_TABLES) describePartitionTable(format);
