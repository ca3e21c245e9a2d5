"""Files on littlefs: a power cut takes what was written since the file was flushed."""


def flush(file):
    file.flush()


def open_log(path):
    file = open(path, "a")

    def write(line):
        file.write(line)
        file.flush()

    return file, write
