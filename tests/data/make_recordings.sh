#!/bin/sh
# Makes the recordings of this directory anew: synthetic speech in the formats in which calls
# are recorded. Needs the Debian packages espeak-ng and ffmpeg; installs nothing itself.
# Encoders change between versions, so the bytes may differ from those that are checked in.
set -eu
cd "$(dirname "$0")"

for tool in espeak-ng ffmpeg; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing: apt-get install espeak-ng ffmpeg" >&2
        exit 1
    }
done

speech=$(mktemp)
trap 'rm -f "$speech"' EXIT
espeak-ng -v en-us -s 160 -w "$speech" \
    "Thank you for calling CareFlow. This call is recorded for training and quality. \
How can I help you today?"

# bitexact leaves out times and versions, so that two runs on one machine give the same bytes.
encode() {
    out=$1
    shift
    ffmpeg -nostdin -loglevel error -y -i "$speech" -map_metadata -1 \
        -flags +bitexact -fflags +bitexact -ac 1 "$@" "$out"
}

encode greeting.webm -c:a libopus -ar 48000 -b:a 24k              # a browser's MediaRecorder
encode greeting.ogg -c:a libopus -ar 48000 -b:a 24k               # WhatsApp, Firefox
encode greeting.wav -c:a pcm_s16le -ar 8000                       # a telephone line
encode greeting.mp3 -c:a libmp3lame -ar 22050 -b:a 32k            # a provider's download
encode greeting.m4a -c:a aac -ar 22050 -b:a 32k -f ipod           # a phone's voice memo

ls -l greeting.*
