package main

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// segment is one file that holds the next `size` bytes of a body.
type segment struct {
	path string
	size int64
}

// sendSegments answers GET and HEAD for a body laid out in files one after the other, with or without a single byte range.
func sendSegments(w http.ResponseWriter, r *http.Request, segments []segment, total int64) error {
	first, last, status := int64(0), total-1, http.StatusOK
	if header := r.Header.Get("Range"); header != "" {
		var ok bool
		if first, last, ok = parseRange(header, total); !ok {
			w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(total, 10))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return nil
		}
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", "bytes "+strconv.FormatInt(first, 10)+"-"+strconv.FormatInt(last, 10)+"/"+strconv.FormatInt(total, 10))
	}
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.FormatInt(last-first+1, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	start := int64(0)
	for _, piece := range segments {
		from, to := max(first, start)-start, min(last+1, start+piece.size)-start
		start += piece.size
		if from >= to {
			continue
		}
		if err := sendFile(w, piece.path, from, to-from); err != nil {
			return err
		}
	}
	return nil
}

// sendFile copies by sendfile(2): net/http takes that path for an io.LimitedReader over a file.
func sendFile(w io.Writer, path string, offset, count int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	_, err = io.CopyN(w, file, count)
	return err
}

// parseRange reads `bytes=a-b`, `bytes=a-` and `bytes=-n`; several ranges at once are not known here.
func parseRange(header string, total int64) (first, last int64, ok bool) {
	from, to, found := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	if !found {
		return 0, 0, false
	}
	if from == "" {
		count, err := strconv.ParseInt(to, 10, 64)
		return max(0, total-count), total - 1, err == nil && count > 0 && total > 0
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil || first >= total {
		return 0, 0, false
	}
	if to == "" {
		return first, total - 1, true
	}
	last, err = strconv.ParseInt(to, 10, 64)
	return first, min(last, total-1), err == nil && last >= first
}
