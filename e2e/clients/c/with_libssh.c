/* libssh with the login certificate: a command with input and an exit status, SFTP both ways. What it did is printed line
 * by line; the first thing that fails ends it. */

#include <fcntl.h>
#include <libssh/libssh.h>
#include <libssh/sftp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SIZE 3000000

static ssh_session session;

static void need(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s: %s\n", what, ssh_get_error(session));
        exit(1);
    }
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    if (!value) {
        fprintf(stderr, "%s is not set\n", name);
        exit(1);
    }
    return value;
}

static void log_in(void)
{
    ssh_key key, certificate;
    session = ssh_new();
    need(session != NULL, "new");
    ssh_options_set(session, SSH_OPTIONS_HOST, variable("SSH_HOST"));
    ssh_options_set(session, SSH_OPTIONS_PORT_STR, variable("SSH_PORT"));
    ssh_options_set(session, SSH_OPTIONS_USER, variable("SSH_LOGIN"));
    ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, variable("SSH_PLAIN_KNOWN_HOSTS"));
    ssh_options_set(session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null");
    int configured = 0;
    ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &configured);
    need(ssh_connect(session) == SSH_OK, "connect");
    /* It knows no host certificates, but the key is the same. */
    need(ssh_session_is_known_server(session) == SSH_KNOWN_HOSTS_OK, "the host's key");
    need(ssh_pki_import_privkey_file(variable("SSH_KEY"), NULL, NULL, NULL, &key) == SSH_OK, "key");
    need(ssh_userauth_publickey(session, NULL, key) == SSH_AUTH_DENIED, "the bare key lets in");
    printf("bare key denied\n");
    need(ssh_pki_import_cert_file(variable("SSH_CERTIFICATE"), &certificate) == SSH_OK, "certificate");
    need(ssh_pki_copy_cert_to_privkey(certificate, key) == SSH_OK, "certificate of the key");
    need(ssh_userauth_publickey(session, NULL, key) == SSH_AUTH_SUCCESS, "log in");
    printf("logged in\n");
    ssh_key_free(certificate);
    ssh_key_free(key);
}

static void command(const char *data)
{
    char output[256], errors[256];
    ssh_channel channel = ssh_channel_new(session);
    need(ssh_channel_open_session(channel) == SSH_OK, "channel");
    need(ssh_channel_request_exec(channel, "wc -c; echo err >&2; exit 7") == SSH_OK, "exec");
    need(ssh_channel_write(channel, data, SIZE) == SIZE, "input");
    need(ssh_channel_send_eof(channel) == SSH_OK, "end of input");
    int out = ssh_channel_read(channel, output, sizeof output, 0);
    need(out > 0, "output");
    int err = ssh_channel_read(channel, errors, sizeof errors, 1);
    need(err > 0, "errors");
    need(ssh_channel_read(channel, output + out, sizeof output - out, 0) == 0 && ssh_channel_is_eof(channel), "end of output");
    printf("command %d %.*s %.*s", ssh_channel_get_exit_status(channel), out - 1, output, err, errors);
    ssh_channel_close(channel);
    ssh_channel_free(channel);
}

static void files(const char *data)
{
    char path[4096], moved[4096];
    snprintf(path, sizeof path, "%s/libssh", variable("SSH_SCRATCH"));
    snprintf(moved, sizeof moved, "%s/libssh-moved", variable("SSH_SCRATCH"));
    sftp_session sftp = sftp_new(session);
    need(sftp && sftp_init(sftp) == SSH_OK, "sftp");
    sftp_file file = sftp_open(sftp, path, O_WRONLY | O_CREAT | O_TRUNC, S_IRUSR | S_IWUSR);
    need(file != NULL, "open to write");
    for (size_t at = 0; at < SIZE;) {
        size_t part = SIZE - at < 30000 ? SIZE - at : 30000;
        ssize_t written = sftp_write(file, data + at, part);
        need(written > 0, "write");
        at += (size_t)written;
    }
    need(sftp_close(file) == SSH_OK, "close");
    need(sftp_rename(sftp, path, moved) == SSH_OK, "rename");

    sftp_attributes about = sftp_stat(sftp, moved);
    need(about != NULL, "stat");
    char *back = malloc(SIZE + 1);
    size_t got = 0;
    file = sftp_open(sftp, moved, O_RDONLY, 0);
    need(back && file, "open to read");
    for (ssize_t part; (part = sftp_read(file, back + got, SIZE + 1 - got)) != 0; got += (size_t)part)
        need(part > 0, "read");
    need(sftp_close(file) == SSH_OK, "close");
    printf("sftp %llu %s\n", (unsigned long long)about->size, got == SIZE && !memcmp(back, data, SIZE) ? "same" : "differs");
    sftp_statvfs_t room = sftp_statvfs(sftp, moved);
    need(room != NULL, "statvfs");
    printf("room %s\n", room->f_blocks > 0 ? "known" : "none");
    need(sftp_open(sftp, path, O_RDONLY, 0) == NULL, "what was moved is still there");
    printf("moved %s\n", sftp_get_error(sftp) == SSH_FX_NO_SUCH_FILE ? "away" : "?");
    need(sftp_unlink(sftp, moved) == SSH_OK, "remove");
    sftp_statvfs_free(room);
    sftp_attributes_free(about);
    free(back);
    sftp_free(sftp);
}

int main(void)
{
    char *data = malloc(SIZE);
    if (!data)
        return 1;
    for (size_t at = 0; at < SIZE; at++)
        data[at] = (char)(at * 2654435761u >> 13);
    log_in();
    command(data);
    files(data);
    ssh_disconnect(session);
    ssh_free(session);
    free(data);
    return 0;
}
