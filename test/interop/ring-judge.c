/*
 * A block frontend and a block backend made of Xen's own headers (libxen-dev): ring.h's macros and blkif.h's structures
 * decide what is on the ring. A domain's memory and its grant table are two files that the other side maps too.
 * It takes one command a line and answers with one or more lines, the last of which is "ok".
 *
 *   ring-judge MEMORY GRANTS     compiled with -DABI32 it speaks x86_32-abi: 64-bit fields aligned to 4 bytes
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define mb() __sync_synchronize()
#define rmb() __sync_synchronize()
#define wmb() __sync_synchronize()
#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/io/ring.h>
#ifdef ABI32
#pragma pack(push, 4)
#endif
#include <xen/io/blkif.h>
#ifdef ABI32
#pragma pack(pop)
#endif

#define PAGE 4096
#define RING_REF 8
#define INDIRECT_REF 90
#define DATA_REF 100

static int memory_fd;
static char *memory;
static grant_entry_v1_t *grants;
static blkif_front_ring_t front;
static blkif_back_ring_t back;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void *map_file(const char *path, int *fd) {
  *fd = open(path, O_RDWR);
  off_t size = *fd < 0 ? -1 : lseek(*fd, 0, SEEK_END);
  void *at = size < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  if (at == MAP_FAILED) die(path);
  return at;
}

/* The pages of a ring side by side in our address space, wherever they are in the domain's memory. */
static blkif_sring_t *map_ring(const unsigned *frames, int pages) {
  char *at = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) die("mmap");
  for (int i = 0; i < pages; i++)
    if (mmap(at + i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory_fd, (off_t)frames[i] * PAGE) == MAP_FAILED)
      die("mmap");
  return (blkif_sring_t *)at;
}

static void grant(unsigned ref, unsigned frame) {
  grants[ref].frame = frame;
  grants[ref].domid = 0;
  xen_wmb();
  grants[ref].flags = GTF_permit_access;
}

/* The frame behind a reference, if the domain lets domain 0 map it. */
static unsigned frame_of(unsigned ref) {
  if ((grants[ref].flags & GTF_type_mask) != GTF_permit_access || grants[ref].domid != 0) {
    printf("ref %u is not granted\n", ref);
    exit(1);
  }
  return grants[ref].frame;
}

static void start_front(int pages) {
  unsigned frames[16];
  for (int i = 0; i < pages; i++) {
    frames[i] = 60 - 2 * i; /* no two of them neighbours, and backwards */
    grant(RING_REF + i, frames[i]);
  }
  blkif_sring_t *sring = map_ring(frames, pages);
  memset(sring, 0xee, pages * PAGE);
  SHARED_RING_INIT(sring);
  FRONT_RING_INIT(&front, sring, pages * PAGE);
  grant(INDIRECT_REF, 90);
  for (int i = 0; i < 256; i++) grant(DATA_REF + i, 100 + i);
  printf("size %u sizeof %zu\n", RING_SIZE(&front), sizeof(union blkif_sring_entry));
}

static void start_back(char *args) {
  unsigned frames[16];
  int pages = 0;
  for (char *word = strtok(args, " "); word && pages < 16; word = strtok(NULL, " ")) frames[pages++] = frame_of(atoi(word));
  blkif_sring_t *sring = map_ring(frames, pages);
  BACK_RING_ATTACH(&back, sring, sring->rsp_prod, pages * PAGE);
  printf("size %u\n", RING_SIZE(&back));
}

static void put(int op, uint64_t id, uint64_t sector, int segments) {
  blkif_request_t *request = RING_GET_REQUEST(&front, front.req_prod_pvt++);
  request->operation = op;
  request->nr_segments = segments;
  request->handle = 0xbeef;
  request->id = id;
  request->sector_number = sector;
  for (int i = 0; i < segments; i++)
    request->seg[i] = (struct blkif_request_segment){.gref = DATA_REF + i, .first_sect = 0, .last_sect = 7};
}

static void put_discard(uint64_t id, uint64_t sector, uint64_t count) {
  blkif_request_discard_t *request = (void *)RING_GET_REQUEST(&front, front.req_prod_pvt++);
  request->operation = BLKIF_OP_DISCARD;
  request->flag = 0;
  request->id = id;
  request->sector_number = sector;
  request->nr_sectors = count;
}

static void put_indirect(int op, uint64_t id, uint64_t sector, int segments) {
  struct blkif_request_segment *all = (void *)(memory + 90 * PAGE);
  for (int i = 0; i < segments; i++)
    all[i] = (struct blkif_request_segment){.gref = DATA_REF + i, .first_sect = 0, .last_sect = 7};
  blkif_request_indirect_t *request = (void *)RING_GET_REQUEST(&front, front.req_prod_pvt++);
  request->operation = BLKIF_OP_INDIRECT;
  request->indirect_op = op;
  request->nr_segments = segments;
  request->id = id;
  request->sector_number = sector;
  request->indirect_grefs[0] = INDIRECT_REF;
}

static void take_responses(void) {
  int more;
  do {
    RING_IDX end = front.sring->rsp_prod;
    xen_rmb();
    for (; front.rsp_cons != end; front.rsp_cons++) {
      blkif_response_t *response = RING_GET_RESPONSE(&front, front.rsp_cons);
      printf("%llu %u %d\n", (unsigned long long)response->id, response->operation, response->status);
    }
    RING_FINAL_CHECK_FOR_RESPONSES(&front, more);
  } while (more);
}

static void print_segments(const struct blkif_request_segment *segments, int count) {
  for (int i = 0; i < count; i++)
    printf(" %u:%u-%u", frame_of(segments[i].gref), segments[i].first_sect, segments[i].last_sect);
  printf("\n");
}

static void print_request(RING_IDX index) {
  blkif_request_t request;
  memcpy(&request, RING_GET_REQUEST(&back, index), sizeof request);
  unsigned long long id = request.id, sector = request.sector_number;
  if (request.operation == BLKIF_OP_DISCARD) {
    blkif_request_discard_t *discard = (void *)&request;
    printf("discard %llu %llu %llu %u\n", id, sector, (unsigned long long)discard->nr_sectors, discard->flag);
  } else if (request.operation == BLKIF_OP_INDIRECT) {
    blkif_request_indirect_t *indirect = (void *)&request;
    printf("indirect-%u %llu %llu", indirect->indirect_op, (unsigned long long)indirect->id, (unsigned long long)indirect->sector_number);
    print_segments((void *)(memory + (size_t)frame_of(indirect->indirect_grefs[0]) * PAGE), indirect->nr_segments);
  } else {
    printf("op-%u %llu %llu", request.operation, id, sector);
    print_segments(request.seg, request.nr_segments);
  }
}

static void take_requests(void) {
  int more;
  do {
    RING_IDX end = back.sring->req_prod;
    xen_rmb();
    if (RING_REQUEST_PROD_OVERFLOW(&back, end)) printf("overflow\n"), exit(1);
    for (; back.req_cons != end; back.req_cons++) {
      if (RING_REQUEST_CONS_OVERFLOW(&back, back.req_cons)) break;
      print_request(back.req_cons);
    }
    RING_FINAL_CHECK_FOR_REQUESTS(&back, more);
  } while (more);
}

static void respond(uint64_t id, int op, int status) {
  blkif_response_t *response = RING_GET_RESPONSE(&back, back.rsp_prod_pvt++);
  response->id = id;
  response->operation = op;
  response->status = status;
}

int main(int argc, char **argv) {
  int fd;
  char line[4096];
  if (argc != 3) return 2;
  memory = map_file(argv[1], &memory_fd);
  grants = map_file(argv[2], &fd);
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  while (fgets(line, sizeof line, stdin)) {
    unsigned long long id = 0, sector = 0;
    int op = 0, count = 0, notify;
    if (sscanf(line, "front %d", &count) == 1) start_front(count);
    else if (strncmp(line, "back ", 5) == 0) start_back(line + 5);
    else if (sscanf(line, "put %d %llu %llu %d", &op, &id, &sector, &count) == 4) put(op, id, sector, count);
    else if (sscanf(line, "discard %llu %llu %d", &id, &sector, &count) == 3) put_discard(id, sector, count);
    else if (sscanf(line, "indirect %d %llu %llu %d", &op, &id, &sector, &count) == 4) put_indirect(op, id, sector, count);
    else if (sscanf(line, "respond %llu %d %d", &id, &op, &count) == 3) respond(id, op, count);
    else if (strcmp(line, "push-requests\n") == 0) {
      RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, notify);
      printf("notify %d\n", notify);
    } else if (strcmp(line, "push-responses\n") == 0) {
      RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&back, notify);
      printf("notify %d\n", notify);
    } else if (strcmp(line, "requests\n") == 0) take_requests();
    else if (strcmp(line, "responses\n") == 0) take_responses();
    else printf("unknown command\n");
    printf("ok\n");
    fflush(stdout);
  }
  return 0;
}
