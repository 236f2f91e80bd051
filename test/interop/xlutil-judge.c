/*
 * Xen's own parsers (libxlutil), asked from a test: a case a line on stdin, an answer a line on stdout.
 *   D HEX HEX ...   one disk from several specifications
 *   C HEX NAME ...  a configuration, and the values of these names
 * Texts go both ways in hex ("" is a dot). Build: cc xlutil-judge.c -lxlutil -lxenlight
 */
#include <libxlutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *from_hex(const char *hex)
{
    size_t n = hex[0] == '.' ? 0 : strlen(hex) / 2;
    char *text = malloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        text[i] = (char)byte;
    }
    text[n] = 0;
    return text;
}

static void put_hex(const char *text)
{
    if (!text)
        fputs("-", stdout);
    else if (!*text)
        fputs(".", stdout);
    else
        for (; *text; text++)
            printf("%02x", (unsigned char)*text);
}

static void field(const char *name, const char *text)
{
    printf(" %s=", name);
    put_hex(text);
}

static void judge_disk(XLU_Config *cfg, char **words, int n)
{
    libxl_device_disk d;
    const char *specs[256];
    for (int i = 0; i < n; i++)
        specs[i] = from_hex(words[i]);
    libxl_device_disk_init(&d);
    int err = xlu_disk_parse(cfg, n, specs, &d);
    printf("err=%d", err);
    if (err)
        return;
    field("target", d.pdev_path);
    field("vdev", d.vdev);
    field("backend", d.backend_domname);
    field("script", d.script);
    field("format", libxl_disk_format_to_string(d.format));
    field("backendtype", libxl_disk_backend_to_string(d.backend));
    field("specification", libxl_disk_specification_to_string(d.specification));
    field("discard", libxl_defbool_to_string(d.discard_enable));
    field("trusted", libxl_defbool_to_string(d.trusted));
    field("colo", libxl_defbool_to_string(d.colo_enable));
    printf(" readwrite=%d cdrom=%d removable=%d direct=%d", d.readwrite, d.is_cdrom, d.removable, d.direct_io_safe);
}

static void put_value(XLU_Config *cfg, XLU_ConfigValue *value)
{
    XLU_ConfigList *list;
    char *text;
    if (xlu_cfg_value_type(value) == XLU_STRING) {
        xlu_cfg_value_get_string(cfg, value, &text, 1);
        put_hex(text);
        return;
    }
    xlu_cfg_value_get_list(cfg, value, &list, 1);
    putchar('[');
    for (int i = 0; xlu_cfg_get_listitem2(list, i); i++) {
        if (i)
            putchar(',');
        put_value(cfg, xlu_cfg_get_listitem2(list, i));
    }
    putchar(']');
}

static void judge_config(XLU_Config *cfg, char **words, int n)
{
    char *text = from_hex(words[0]);
    int err = xlu_cfg_readdata(cfg, text, (int)strlen(text));
    printf("err=%d", err);
    for (int i = 1; !err && i < n; i++) {
        const char *atom;
        XLU_ConfigList *list;
        if (!xlu_cfg_get_string(cfg, words[i], &atom, 1)) {
            field(words[i], atom);
        } else if (!xlu_cfg_get_list(cfg, words[i], &list, NULL, 1)) {
            printf(" %s=[", words[i]);
            for (int k = 0; xlu_cfg_get_listitem2(list, k); k++) {
                if (k)
                    putchar(',');
                put_value(cfg, xlu_cfg_get_listitem2(list, k));
            }
            putchar(']');
        }
    }
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        char *words[256], *report = NULL;
        size_t length, n = 0;
        for (char *word = strtok(line, " \n"); word && n < 256; word = strtok(NULL, " \n"))
            words[n++] = word;
        FILE *out = open_memstream(&report, &length);
        XLU_Config *cfg = xlu_cfg_init(out, "a.cfg");
        if (words[0][0] == 'D')
            judge_disk(cfg, words + 1, (int)n - 1);
        else
            judge_config(cfg, words + 1, (int)n - 1);
        fclose(out);
        field("report", report);
        putchar('\n');
        fflush(stdout);
    }
    return 0;
}
