"""Files on littlefs, which commits a file when it is flushed; without that a power cut takes all that was written."""


def flush(file):
    file.flush()


def open_log(path):
    file = open(path, "a")

    def write(line):
        file.write(line)
        file.flush()

    return file, write
